"""Which configuration answers a question, found by running more tasks only of those in question."""

from codejoule.statistics.race.facts import Answer, Job, Question, Rules, Seen
from codejoule.statistics.race.race import Race

__all__ = ["Answer", "Job", "Question", "Race", "Rules", "Seen"]
