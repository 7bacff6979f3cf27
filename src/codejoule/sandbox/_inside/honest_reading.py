"""Whether a program that looks at its callers wants their names alone, or their answers."""

import ast
import types
from collections.abc import Iterator

_CODE = frozenset({"f_code", "__code__"})

_TELL_NO_ANSWERS = frozenset(
    {
        "co_name", "co_qualname", "co_filename", "co_firstlineno", "co_flags", "co_varnames",
        "co_argcount", "co_posonlyargcount", "co_kwonlyargcount",
    }
)  # fmt: skip

_LOOK_AT_VARIABLES = frozenset({"locals", "vars", "f_locals", "eval", "exec"})


def codes_of(code: types.CodeType) -> Iterator[types.CodeType]:
    """`code` and all that is defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes_of(constant)


def reads_no_constants(program: str) -> bool:
    """Whether all code objects of functions and frames that `program`, which is Python, takes
    are only asked for names, places and parameters, at once or by way of a variable. The
    constants of a test hold what it expects."""
    if not any(name in program for name in _CODE):
        return False
    nodes = list(ast.walk(ast.parse(program)))
    taken = {id(n) for n in nodes if isinstance(n, ast.Attribute) and n.attr in _CODE}
    asked = {
        id(n.value) for n in nodes if isinstance(n, ast.Attribute) and n.attr in _TELL_NO_ANSWERS
    }
    kept = {
        id(node.value): node.targets[0].id
        for node in nodes
        if isinstance(node, ast.Assign) and id(node.value) in taken
        and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
    }  # fmt: skip
    if not taken <= asked | kept.keys():
        return False
    variables = set(kept.values())
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    if variables and (
        (names | attributes) & _LOOK_AT_VARIABLES
        or attributes & variables
        or any(isinstance(node, ast.Global | ast.Nonlocal) for node in nodes)
    ):
        return False
    return all(
        id(node) in asked
        for node in nodes
        if isinstance(node, ast.Name) and node.id in variables and isinstance(node.ctx, ast.Load)
    )
