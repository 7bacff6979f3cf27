"""One program to judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from codejoule.domain import EXPECTED_OUTPUT, Task, join_sources, preamble
from codejoule.evaluation.expected import expected_test_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A solution, and what it is judged by."""

    task_id: str
    """The task it claims to solve."""
    sample: int
    """Number of the sample, from 0."""
    solution: str
    """The whole program: imports, function and all."""
    code_prompt: str
    """The task's imports and signature, which come before the solution ("calibration"): a
    solution without the imports that the prompt gave is judged as if it had them."""
    test: str
    """Source of a ``unittest`` module with a ``TestCases`` class."""
    entry_point: str
    """Name of the function that the tests call."""
    plus_test: str = ""
    """Source of further tests, for a sample that passes the first; empty where there are none."""
    reference: str = ""
    """The program that tells what the tests expect, where they leave that to it."""
    expected: Mapping[tuple[str, str], Sequence[str] | None] = field(default_factory=dict)
    """What a reference told for tests, None where it failed; empty before it was asked."""
    keeps_output: bool = False
    """Whether the verdict on a pass shall hold the end of what was printed."""

    @classmethod
    def of(cls, task: Task, solution: str, *, sample: int = 0) -> Self:
        """`solution` to be judged by the tests of `task`."""
        leaves_open = EXPECTED_OUTPUT in task.test + task.plus_test
        return cls(
            task_id=task.task_id,
            sample=sample,
            solution=solution,
            code_prompt=task.code_prompt,
            test=task.test,
            entry_point=task.entry_point,
            plus_test=task.plus_test,
            reference=canonical_solution(task) if leaves_open else "",
        )

    @property
    def program(self) -> str:
        """What runs before the tests."""
        return join_sources((preamble(self.code_prompt), self.solution))

    @property
    def test_names(self) -> list[str]:
        """Its tests, in the order in which unittest runs them."""
        return sorted(expected_test_ids(self.test) | expected_test_ids(self.plus_test))


def canonical_solution(task: Task) -> str:
    """The canonical solution as a whole program, put together as upstream does."""
    return f"{task.complete_prompt}\n{task.canonical_solution}"
