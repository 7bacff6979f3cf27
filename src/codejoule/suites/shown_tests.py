"""Which of a task's tests a model may be shown, and which give the verdict.

The first tests are shown, in the order in which the source has them, and all others stay hidden. A
test is a method of ``TestCases``; where there is one method alone, it is one of the assertions that
the method, or the function that it calls, makes one after the other; in EvalPlus' formats it is one
of the base inputs. What the tests share (imports, set-up, helpers) is in both parts.
"""

import ast
import dataclasses
import warnings
from collections.abc import Sequence

from codejoule.domain import Task, source_lines
from codejoule.domain.test_methods import test_methods
from codejoule.suites.evalplus import split_inputs


def split_tests(task: Task, shown: int) -> Task | None:
    """`task` with its first `shown` tests as ``shown_test`` and the others as ``test``; None where
    that would leave nothing to judge by, or where its tests do not come apart. ``plus_test`` stays
    as it is: all of it is hidden."""
    assert shown > 0
    parts = split_inputs(task.test, shown) or _split(task.test, shown)
    return parts and dataclasses.replace(task, shown_test=parts[0], test=parts[1])


def _split(test: str, shown: int) -> tuple[str, str] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape sequence
            module = ast.parse(test)
    except (SyntaxError, ValueError):
        return None
    methods: dict[str, list[ast.stmt]] = {}
    for method in test_methods(module):
        methods.setdefault(method.name, []).append(method)
    units: Sequence[list[ast.stmt]] = list(methods.values())
    if len(units) == 1:
        units = _assertions(module, units[0][-1])
    elif _mentioned(module) & methods.keys():
        return None  # one test calls another
    if len(units) <= shown:
        return None
    return _without(test, units[shown:]), _without(test, units[:shown])


def _assertions(module: ast.Module, method: ast.stmt) -> list[list[ast.stmt]]:
    """The statements that assert something, one after the other, in `method` or, where all that it
    does is to call a function of `module`, in that function."""
    body: list[ast.stmt] = getattr(method, "body", [])
    match body:
        case [ast.Expr(value=ast.Call(func=ast.Name(id=name)))]:
            called = [n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == name]
            body = called[-1].body if called else body
    lines = [line for node in body for line in {node.lineno, node.end_lineno}]
    if len(set(lines)) < len(lines):
        return []  # two statements share a line
    return [[node] for node in body if any(map(_asserts, ast.walk(node)))]


def _asserts(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert):
        # HumanEval has many an `assert True, "This prints if this assert fails"`.
        return not isinstance(node.test, ast.Constant)
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr.startswith("assert")
    )


def _mentioned(module: ast.Module) -> set[str]:
    return {node.attr for node in ast.walk(module) if isinstance(node, ast.Attribute)}


def _without(test: str, units: Sequence[list[ast.stmt]]) -> str:
    """`test` with a `pass` in place of each of `units`; the lines keep their numbers."""
    lines = source_lines(test)
    for node in [node for unit in units for node in unit]:
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(decorator.lineno for decorator in decorators)]) - 1
        assert node.end_lineno is not None
        lines[first : node.end_lineno] = ["\n"] * (node.end_lineno - first)
        lines[first] = " " * node.col_offset + "pass\n"
    return "".join(lines)
