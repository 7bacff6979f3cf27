"""Whether two runs gave the same texts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

Samples = Mapping[tuple[str, int], str]
"""Text of each sample by (task id, number of the sample)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How many tasks got the same text from two runs."""

    same: int
    """Tasks with the same text in every sample."""
    tasks: int
    """Tasks compared."""

    @property
    def share(self) -> float:
        """``same / tasks``."""
        return self.same / self.tasks


def read_samples(path: Path) -> dict[tuple[str, int], str]:
    """Read a samples file in BigCodeBench's format.

    Parameters
    ----------
    path : pathlib.Path
        JSON lines with ``task_id`` and ``raw_solution`` (as generated) or ``solution``; a
        task's lines are its samples in order.

    Returns
    -------
    dict
        Text by (task id, number of the sample).
    """
    samples: dict[tuple[str, int], str] = {}
    seen: dict[str, int] = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            number = seen.get(row["task_id"], 0)
            seen[row["task_id"]] = number + 1
            text = row["raw_solution"] if "raw_solution" in row else row["solution"]
            samples[row["task_id"], number] = text
    return samples


def agreement(samples_a: Samples, samples_b: Samples) -> Agreement:
    """Count the tasks that two runs answered with the same text.

    Parameters
    ----------
    samples_a, samples_b : mapping
        Texts by (task id, number of the sample).

    Returns
    -------
    Agreement
        Tasks with identical text in all samples, and tasks in all.

    Raises
    ------
    ValueError
        If the two hold different tasks or samples, or none.
    """
    if not samples_a or samples_a.keys() != samples_b.keys():
        only = len(samples_a.keys() ^ samples_b.keys())
        raise ValueError(
            f"the two runs do not hold the same samples: {len(samples_a)} and {len(samples_b)}, "
            f"{only} of them in one run alone"
        )
    tasks = {task for task, _ in samples_a}
    different = {task for (task, n), text in samples_a.items() if samples_b[task, n] != text}
    return Agreement(same=len(tasks - different), tasks=len(tasks))
