"""One program to judge, and what can be known of its tests without running them."""

import ast
import dataclasses
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from codejoule.domain import EXPECTED_OUTPUT, Task, imported_modules, join_sources, preamble
from codejoule.domain.test_methods import methods_in, test_methods

_WORTH_IMPORTING_ONCE = frozenset(
    {"matplotlib", "nltk", "numpy", "pandas", "scipy", "seaborn", "sklearn"}
)
"""Libraries that take long to import and can be forked safely afterwards."""
_NOT_TO_BE_IMPORTED = frozenset(
    {"antigravity", "idlelib", "this", "tkinter", "turtle", "turtledemo", "test", "__future__"}
)
"""Parts of the standard library whose import does something."""


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
        """`solution` to be judged by the tests of `task`, without those that may be shown."""
        leaves_open = EXPECTED_OUTPUT in task.test + task.plus_test
        return cls(
            task_id=task.task_id,
            sample=sample,
            solution=solution,
            code_prompt=task.code_prompt,
            test=task.test,
            plus_test=task.plus_test,
            reference=canonical_solution(task) if leaves_open else "",
        )

    @classmethod
    def shown_part_of(cls, task: Task, solution: str, *, sample: int = 0) -> Self:
        """`solution` to be judged by the tests of `task` that may be shown to a model, which are
        no part of its verdict; the task must have some (`Task.shown_test`)."""
        assert task.shown_test, f"{task.task_id} has no tests that may be shown"
        return cls.of(
            dataclasses.replace(task, test=task.shown_test, plus_test="", shown_test=""),
            solution,
            sample=sample,
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


def _parse(source: str) -> ast.Module:
    """An empty module where it cannot be parsed."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])


def expected_test_ids(test: str) -> frozenset[str]:
    """Names of the test methods of ``TestCases`` in the source `test`, those inherited from
    classes of the same source included; empty where there are none or the source cannot be
    parsed. They are taken from here, never from the process that runs untrusted code."""
    return frozenset(method.name for method in test_methods(_parse(test)))


def expected_failures(test: str) -> frozenset[str]:
    """Names of the methods in the source `test` that are marked ``expectedFailure``, and of
    all methods of a class that is."""
    names: set[str] = set()
    for node in ast.walk(_parse(test)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and any(
            "expectedFailure" in ast.unparse(one) for one in node.decorator_list
        ):
            names.update(
                (method.name for method in methods_in(node.body))
                if isinstance(node, ast.ClassDef)
                else [node.name]
            )
    return frozenset(names)


def modules_worth_importing(sources: Iterable[str]) -> list[str]:
    """Modules that the given (trusted) sources import and that a worker may import once for
    all its samples, the most used first; dotted names as written."""
    counts = Counter(name for source in sources for name in imported_modules(source))
    standard = sys.stdlib_module_names - _NOT_TO_BE_IMPORTED
    worth = {
        name: count
        for name, count in counts.items()
        if name.partition(".")[0] in standard | _WORTH_IMPORTING_ONCE
    }
    return sorted(worth, key=lambda name: (-worth[name], name))
