"""What can be known of tests without running them."""

import ast
import sys
from collections import Counter
from collections.abc import Iterable, Iterator

from codejoule.domain import imported_modules

_WORTH_IMPORTING_ONCE = frozenset(
    {"matplotlib", "nltk", "numpy", "pandas", "scipy", "seaborn", "sklearn"}
)
"""Libraries that take long to import and can be forked safely afterwards."""
_NOT_TO_BE_IMPORTED = frozenset(
    {"antigravity", "idlelib", "this", "tkinter", "turtle", "turtledemo", "test", "__future__"}
)
"""Parts of the standard library whose import does something."""


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
    nodes = ast.walk(_parse(test))
    classes = {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}
    found, pending = frozenset[str](), ["TestCases"]
    while pending:
        case = classes.pop(pending.pop(), None)
        if case is not None:
            found |= frozenset(_tests_in(case.body))
            pending += [base.id for base in case.bases if isinstance(base, ast.Name)]
    return found


def expected_failures(test: str) -> frozenset[str]:
    """Names of the methods in the source `test` that are marked ``expectedFailure``, and of
    all methods of a class that is."""
    names: set[str] = set()
    for node in ast.walk(_parse(test)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and any(
            "expectedFailure" in ast.unparse(one) for one in node.decorator_list
        ):
            names.update(_tests_in(node.body) if isinstance(node, ast.ClassDef) else [node.name])
    return frozenset(names)


def _tests_in(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            if statement.name.startswith("test"):
                yield statement.name
        elif not isinstance(statement, ast.ClassDef):
            # A method may be defined under an `if` or a `with`.
            for field in ("body", "orelse", "finalbody"):
                yield from _tests_in(getattr(statement, field, []))


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
