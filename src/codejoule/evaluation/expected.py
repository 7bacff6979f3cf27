"""What can be known of tests without running them."""

import ast
import sys
from collections import Counter
from collections.abc import Iterable, Iterator

_CLASS = "TestCases"

_WORTH_IMPORTING_ONCE = frozenset(
    {"matplotlib", "nltk", "numpy", "pandas", "scipy", "seaborn", "sklearn"}
)
"""Libraries that take long to import and can be forked safely afterwards."""

_NOT_TO_BE_IMPORTED = frozenset(
    {"antigravity", "idlelib", "this", "tkinter", "turtle", "turtledemo", "test", "__future__"}
)
"""Parts of the standard library whose import does something."""


def expected_test_ids(test: str) -> frozenset[str]:
    """Names of the test methods of ``TestCases`` in the source `test`, those inherited from
    classes of the same source included; empty where there are none or the source cannot be
    parsed. They are taken from here, never from the process that runs untrusted code."""
    try:
        tree = ast.parse(test)
    except (SyntaxError, ValueError):
        return frozenset()
    classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    return frozenset(_methods_of(_CLASS, classes, frozenset()))


def expected_failures(test: str) -> frozenset[str]:
    """Names of the methods in the source `test` that are marked ``expectedFailure``, and of
    all methods of a class that is."""
    try:
        tree = ast.parse(test)
    except (SyntaxError, ValueError):
        return frozenset()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and _is_marked(node):
            names.update(_tests_in(node.body))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _is_marked(node):
            names.add(node.name)
    return frozenset(names)


def _is_marked(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("expectedFailure" in ast.unparse(one) for one in node.decorator_list)


def _methods_of(name: str, classes: dict[str, ast.ClassDef], seen: frozenset[str]) -> Iterator[str]:
    node = classes.get(name)
    if node is None or name in seen:
        return
    for base in node.bases:
        if isinstance(base, ast.Name):
            yield from _methods_of(base.id, classes, seen | {name})
    yield from _tests_in(node.body)


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
    counts: Counter[str] = Counter()
    for source in sources:
        counts.update(name for name in imported_modules(source) if _is_worth_importing(name))
    return [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def imported_modules(source: str) -> frozenset[str]:
    """Dotted names of the modules that `source` imports anywhere; a module, or a code prompt
    that ends in a signature. Empty where it cannot be parsed."""
    for text in (source, f"{source}\n    pass\n"):
        try:
            return frozenset(_imports_of(ast.parse(text)))
        except (SyntaxError, ValueError):
            continue
    return frozenset()


def _imports_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


def _is_worth_importing(name: str) -> bool:
    top = name.partition(".")[0]
    if top in _WORTH_IMPORTING_ONCE:
        return True
    return top in sys.stdlib_module_names and top not in _NOT_TO_BE_IMPORTED
