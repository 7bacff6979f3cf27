"""Tests that expect something else: whoever still passes them does not compute."""

import ast
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_CLASS = "TestCases"

_COMPARISONS = frozenset(
    {
        "assertEqual", "assertEquals", "assertListEqual", "assertTupleEqual", "assertDictEqual",
        "assertSetEqual", "assertSequenceEqual", "assertCountEqual", "assertMultiLineEqual",
        "assertAlmostEqual", "assertAlmostEquals",
    }
)  # fmt: skip
"""Assertions that two values are the same; a literal among them is what is expected."""

_FAR = 10**6
"""How far a number is moved: further than any tolerance that a test states."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengedTests:
    """The source of tests with other expectations."""

    test: str
    """The changed source."""
    changed: frozenset[str]
    """Names of the test methods that a solution which computes its answers must now fail."""


def challenge_tests(test: str, *, name: str) -> ChallengedTests | None:
    """`test` with the literals changed that its test methods expect of the solution, seeded by
    `name`; None where it holds none that can be changed. Only literals that are certain to
    count are changed: what stands in a branch, a loop, a handler or a block that expects an
    exception may never be reached."""
    try:
        tree = ast.parse(test)
    except (SyntaxError, ValueError):
        return None
    rng = random.Random(zlib.crc32(name.encode("utf-8", "surrogatepass")))
    changed = set()
    for case in tree.body:
        if not (isinstance(case, ast.ClassDef) and case.name == _CLASS):
            continue
        for method in case.body:
            if not (isinstance(method, ast.FunctionDef) and method.name.startswith("test")):
                continue
            if _change(method, rng):
                changed.add(method.name)
    if not changed:
        return None
    return ChallengedTests(test=ast.unparse(tree), changed=frozenset(changed))


def _change(method: ast.FunctionDef, rng: random.Random) -> bool:
    """Whether some expectation of `method` was changed, in place."""
    decorators = " ".join(map(ast.unparse, method.decorator_list))
    if "expectedFailure" in decorators or "skip" in decorators:
        return False
    found = False
    for call in _certain_comparisons(method.body):
        first, second = call.args[:2]
        for place, (expected, other) in enumerate(((second, first), (first, second))):
            literal = _literal_behind(expected, method)
            if literal is None or _literal_behind(other, method) is not None:
                continue
            changed = repr(_other_than(ast.literal_eval(literal), rng))
            call.args[1 - place] = ast.parse(changed, mode="eval").body
            found = True
            break
    return found


def _certain_comparisons(body: list[ast.stmt]) -> Iterator[ast.Call]:
    for statement in body:
        if isinstance(statement, ast.Return | ast.Raise):
            return
        if isinstance(statement, ast.With) and not _expects_exception(statement):
            yield from _certain_comparisons(statement.body)
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)):
            continue
        call = statement.value
        method = call.func
        if (
            isinstance(method, ast.Attribute)
            and isinstance(method.value, ast.Name)
            and method.value.id == "self"
            and method.attr in _COMPARISONS
            and len(call.args) >= 2
            and not any(isinstance(argument, ast.Starred) for argument in call.args)
        ):
            yield call


def _expects_exception(statement: ast.With) -> bool:
    said = " ".join(ast.unparse(item.context_expr) for item in statement.items)
    return any(word in said for word in ("assertRaises", "suppress", "assertWarns", "assertLogs"))


def _literal_behind(node: ast.expr, method: ast.FunctionDef) -> ast.expr | None:
    """`node` if it is a literal, or the literal that the local name `node` always stands for."""
    if _is_literal(node):
        return node
    if not isinstance(node, ast.Name):
        return None
    stores = [
        one
        for one in ast.walk(method)
        if isinstance(one, ast.Name) and one.id == node.id and not isinstance(one.ctx, ast.Load)
    ]
    assigned = [
        one.value
        for one in method.body
        if isinstance(one, ast.Assign)
        and len(one.targets) == 1
        and isinstance(one.targets[0], ast.Name)
        and one.targets[0].id == node.id
    ]
    if len(stores) == len(assigned) == 1 and _is_literal(assigned[0]):
        return assigned[0]
    return None


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _other_than(value: Any, rng: random.Random) -> Any:
    """Something of the same kind as `value` that no tolerance takes for it."""
    if isinstance(value, bool):
        return not value
    mark = f"{rng.getrandbits(64):016x}"
    if isinstance(value, int | float | complex):
        moved = value + _FAR + rng.randrange(_FAR)
        return mark if moved == value else moved
    if isinstance(value, str):
        return value + mark
    if isinstance(value, bytes):
        return value + mark.encode("ascii")
    if isinstance(value, list):
        return [*value, mark]
    if isinstance(value, tuple):
        return (*value, mark)
    if isinstance(value, set):
        return {*value, mark}
    if isinstance(value, dict):
        return {**value, mark: mark}
    return mark
