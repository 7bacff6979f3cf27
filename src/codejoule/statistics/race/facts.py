"""What a race is asked, what it asks for, what it has seen and what it answers."""

import math
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Question = StrEnum("Question", "front least_energy best_pass")
"""The Pareto front; least energy with pass@1 at least P; best pass@1 within E."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is asked, and how sure and how fine the answer has to be."""

    question: Question = Question.front
    """What is asked."""
    min_pass_at_1: float = math.nan
    """Pass@1 to reach (``least_energy``)."""
    max_energy_j: float = math.nan
    """Limit of the energy of all tasks [J] (``best_pass``)."""
    margin: float = 0.02
    """Difference of pass@1 that does not matter."""
    energy_margin: float = 0.02
    """Relative difference of energy that does not matter."""
    error: float = 0.05
    """Probability of a wrong answer."""
    first: int = 64
    """Tasks of the first look."""
    step: int = 64
    """Tasks of a look are a multiple of this, so that the largest batch is full."""
    growth: float = 1.3
    """How much larger the next look is."""
    max_repeats: int = 3
    """Runs of a configuration at most, where energies are close."""
    prediction_sd: float = 0.3
    """Standard deviation of the logarithm of measured over predicted energy, at least; it is
    estimated from those that ran."""

    def looks(self, tasks: int) -> tuple[int, ...]:
        """Numbers of tasks at which is looked, the last one all."""
        found = [min(self.first, tasks)]
        while found[-1] < tasks:
            more = math.ceil(found[-1] * self.growth / self.step) * self.step
            found.append(min(max(more, found[-1] + 1), tasks))
        if len(found) > 1 and found[-1] - found[-2] < self.step:
            del found[-2]
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run to make."""

    configuration: int
    """Its number."""
    repeat: int
    """From 1."""
    tasks: int
    """How many of the tasks, in the random order: those of an earlier look are among them."""
    before: int
    """How many an earlier run of this repeat has done; 0 for the first."""


@dataclass(slots=True)
class Seen:
    """What is known of one configuration."""

    passed: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Share of each task's samples that passed."""
    runs: list[NDArray[np.float64]] = field(default_factory=list)
    """Energy of each task [J], a run per repeat."""

    @property
    def tasks(self) -> int:
        """Tasks seen."""
        return self.passed.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the evidence says."""

    decided: bool
    """Whether it answers the question with the confidence asked for."""
    chosen: tuple[int, ...]
    """The front, or the one configuration; empty where none qualifies. A guess, not `decided`."""
    ties: tuple[tuple[int, int, float], ...]
    """Pairs whose energies repeats did not tell apart, and the difference that is possible."""
    open: tuple[int, ...]
    """Configurations that are still in question."""
