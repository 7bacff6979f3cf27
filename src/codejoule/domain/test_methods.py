"""The tests in the source of a ``unittest`` module, found without running it."""

import ast
from collections.abc import Iterator

_CLASS = "TestCases"
"""The class whose methods are a task's tests."""


def test_methods(module: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Find the test methods of ``TestCases``.

    Parameters
    ----------
    module : ast.Module
        The syntax tree of a module of tests.

    Returns
    -------
    list of ast.FunctionDef or ast.AsyncFunctionDef
        Its test methods, with those inherited from classes of the same source, in the order of
        their lines; a name may be there more than once.
    """
    nodes = ast.walk(module)
    classes = {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}
    found: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
    pending = [_CLASS]
    while pending:
        case = classes.pop(pending.pop(), None)
        if case is not None:
            found += methods_in(case.body)
            pending += [base.id for base in case.bases if isinstance(base, ast.Name)]
    return sorted(found, key=lambda method: method.lineno)


def methods_in(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Find the test methods that the body of a class defines.

    Parameters
    ----------
    body : list of ast.stmt
        The statements of a class.

    Yields
    ------
    ast.FunctionDef or ast.AsyncFunctionDef
        Each method whose name begins with ``test``.
    """
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            if statement.name.startswith("test"):
                yield statement
        elif not isinstance(statement, ast.ClassDef):
            # A method may be defined under an `if` or a `with`.
            for field in ("body", "orelse", "finalbody"):
                yield from methods_in(getattr(statement, field, []))
