"""What a group of runs answers: one sentence, what better pass@1 costs, and what is doubtful."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from codejoule.analysis.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The configuration to take for a goal, in the words that every view opens with."""

    goal: str
    """The goal, in words."""
    sentence: str
    """What to take, what it costs and what was shown of it; or that nothing reaches the goal."""
    ladder: tuple[str, ...]
    """A line for each better pass@1 that more energy buys; empty where there is none."""
    doubts: tuple[str, ...]
    """A line for each thing that is not known or could be otherwise."""
    configuration: str | None
    """Label of the configuration to take; None where none is shown to reach the goal."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Figures of the configuration: ``energy_per_solved_task_j`` (or ``energy_per_task_j``,
    where no correct programs are known), ``pass_at_1``, and ``ratio``, ``ratio_low``,
    ``ratio_high`` of that energy to the reference's; what is not known is absent."""
    reference: str | None = None
    """Label of the configuration that ``ratio`` is against."""
    candidates: Table
    """Every configuration against the goal."""

    def as_json(self) -> dict[str, Any]:
        """As what `json.dumps` takes."""
        return {
            "goal": self.goal,
            "sentence": self.sentence,
            "ladder": list(self.ladder),
            "doubts": list(self.doubts),
            "configuration": self.configuration,
            "figures": dict(self.figures),
            "reference": self.reference,
            "candidates": self.candidates.as_json(),
        }
