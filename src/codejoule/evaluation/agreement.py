"""Verdicts beside those of another evaluation of the same samples."""

from collections.abc import Sequence
from dataclasses import dataclass

from codejoule.domain import Status, Verdict
from codejoule.evaluation.formats import RecordedVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far two evaluations say the same: pass, or not."""

    compared: int
    """Samples that both have."""
    differing: tuple[tuple[Verdict, RecordedVerdict], ...]
    """Those of which one passed and the other did not, with both verdicts."""

    @property
    def rate(self) -> float:
        """Share of the compared samples on which both agree; NaN where there are none."""
        return 1 - len(self.differing) / self.compared if self.compared else float("nan")


def compare(verdicts: Sequence[Verdict], recorded: Sequence[RecordedVerdict]) -> Agreement:
    """Compare by task and number of the sample; samples that one side lacks,
    or could not judge, do not count."""
    others = {
        (other.task_id, other.sample): other
        for other in recorded
        if other.status is not Status.unjudged
    }
    pairs = [
        (verdict, others[verdict.task_id, verdict.sample])
        for verdict in verdicts
        if (verdict.task_id, verdict.sample) in others and verdict.status is not Status.unjudged
    ]
    differing = [
        (ours, theirs)
        for ours, theirs in pairs
        if (ours.status is Status.passed) != (theirs.status is Status.passed)
    ]
    return Agreement(compared=len(pairs), differing=tuple(differing))
