"""Tests that expect something else: whoever still passes them does not compute."""

import ast
import random
import zlib
from collections.abc import Iterator
from typing import Any

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


def challenge_tests(test: str, *, name: str) -> tuple[str, frozenset[str]] | None:
    """`test` with the literals changed that its test methods expect of the solution, seeded by
    `name`, and the methods that a solution which computes its answers must now fail; None where
    there is none that can be changed. Only literals that are certain to count are: what stands
    in a branch, a loop, a handler or a block that expects an exception may never be reached."""
    try:
        tree = ast.parse(test)
    except (SyntaxError, ValueError):
        return None
    rng = random.Random(zlib.crc32(name.encode("utf-8", "surrogatepass")))
    cases = [one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == "TestCases"]
    changed = frozenset(
        method.name
        for case in cases
        for method in case.body
        if isinstance(method, ast.FunctionDef) and method.name.startswith("test")
        if _change(method, rng)
    )
    return (ast.unparse(tree), changed) if changed else None


def _change(method: ast.FunctionDef, rng: random.Random) -> bool:
    """Whether some expectation of `method` was changed, in place."""
    decorators = " ".join(map(ast.unparse, method.decorator_list))
    if "expectedFailure" in decorators or "skip" in decorators:
        return False
    found = False
    for call in _certain_comparisons(method.body):
        literals = [_literal_behind(node, method) for node in call.args[:2]]
        # What is expected stands second, or first.
        for place, other in ((1, 0), (0, 1)):
            literal = literals[place]
            if literal is not None and literals[other] is None:
                changed = repr(_other_than(ast.literal_eval(literal), rng))
                call.args[place] = ast.parse(changed, mode="eval").body
                found = True
    return found


def _certain_comparisons(body: list[ast.stmt]) -> Iterator[ast.Call]:
    for statement in body:
        match statement:
            case ast.Return() | ast.Raise():
                return
            case ast.With() if not _expects_exception(statement):
                yield from _certain_comparisons(statement.body)
            case ast.Expr(
                value=ast.Call(
                    func=ast.Attribute(value=ast.Name(id="self"), attr=attr),
                    args=[_, _, *_] as args,
                ) as call
            ) if attr in _COMPARISONS and not any(isinstance(one, ast.Starred) for one in args):
                yield call


def _expects_exception(statement: ast.With) -> bool:
    said = " ".join(ast.unparse(item.context_expr) for item in statement.items)
    return any(word in said for word in ("assertRaises", "suppress", "assertWarns", "assertLogs"))


def _literal_behind(node: ast.expr, method: ast.FunctionDef) -> ast.expr | None:
    """`node` if it is a literal, or the literal that the local name `node` always stands for."""
    if isinstance(node, ast.Name):
        names = [one for one in ast.walk(method) if isinstance(one, ast.Name) and one.id == node.id]
        stores = [one for one in names if not isinstance(one.ctx, ast.Load)]
        values = [
            one.value
            for one in method.body
            if isinstance(one, ast.Assign) and one.targets == stores
        ]
        if len(values) != 1:
            return None
        (node,) = values
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return node


def _other_than(value: Any, rng: random.Random) -> Any:
    """Something of the same kind as `value` that no tolerance takes for it."""
    if isinstance(value, bool):
        return not value
    mark = f"{rng.getrandbits(64):016x}"
    match value:
        case int() | float() | complex():
            moved = value + _FAR + rng.randrange(_FAR)
            return mark if moved == value else moved
        case str():
            return value + mark
        case bytes():
            return value + mark.encode("ascii")
        case list():
            return [*value, mark]
        case tuple():
            return (*value, mark)
        case set():
            return {*value, mark}
        case dict():
            return {**value, mark: mark}
        case _:
            return mark
