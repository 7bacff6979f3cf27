"""One program to judge."""

from dataclasses import dataclass

from codejoule.domain import join_sources, preamble


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

    @property
    def program(self) -> str:
        """What runs before the tests."""
        return join_sources((preamble(self.code_prompt), self.solution))
