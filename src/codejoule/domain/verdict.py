"""What the tests said of a sample."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Self

SHORT_OF_MEMORY = "short of memory"
"""Reason of a sample that could not be judged: the machine's memory did not suffice."""


class Status(Enum):
    """Verdict on a sample, in BigCodeBench's words. `unjudged` is no verdict and counts in no
    rate."""

    passed = "pass"
    failed = "fail"
    timeout = "timeout"
    unjudged = "unjudged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Outcome of the tests of one sample."""

    task_id: str
    """The task."""
    sample: int
    """Number of the sample, from 0."""
    status: Status
    """Pass, fail or timeout; unjudged where there is none."""
    reason: str
    """More about a failure: ``fail``, ``timeout``, ``memory``, ``crash``, ``tampered``,
    ``no tests run``, ``needs network``, ``needs data``, ``syntax`` ...; ``pass`` for a pass,
    ``short of memory`` for an unjudged one. It begins with ``plus`` where only the further tests
    failed."""
    details: Mapping[str, str] = field(default_factory=dict)
    """Traceback of each failed test, or ``{"ALL": message}`` (BigCodeBench's format)."""
    evaluation_s: float
    """Wall time of the sample in the sandbox [s]."""
    evaluation_cpu_s: float
    """CPU time of all its processes [s]."""
    memory_peak_bytes: int | None = None
    """Largest memory of its processes together [bytes]; None where not known."""
    tests: Mapping[str, str] = field(default_factory=dict)
    """Outcome of each test that ran to its end: ``pass``, ``fail``, ``memory`` or ``skip``."""
    base: Status | None = None
    """The verdict by the benchmark's own tests, where the task has further ones (EvalPlus); all
    fields above are then by both. None where it has no further ones."""

    def of_base_tests(self) -> Self:
        """The same by the benchmark's own tests alone."""
        if self.base is None or self.base is self.status:
            return self
        # They passed, for otherwise the further ones were not run.
        return replace(self, status=self.base, reason=self.base.value, details={}, base=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedSample(Verdict):
    """A verdict, and the energy of reaching it."""

    energy_j: float | None
    """Energy of judging the sample [J]; None where it was not measured."""

    @classmethod
    def of(cls, verdict: Verdict, energy_j: float | None) -> Self:
        """The same verdict with this energy."""
        facts = {each.name: getattr(verdict, each.name) for each in fields(Verdict)}
        return cls(**facts | {"energy_j": energy_j})
