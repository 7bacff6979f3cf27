"""Which names a program binds, and which it uses without."""

import builtins
import symtable
import warnings
from collections.abc import Iterator

_GIVEN = frozenset(dir(builtins)) | {"__file__", "__builtins__", "__annotations__"}


def bound_names(program: str) -> frozenset[str]:
    """Names that `program` binds at its top level or declares global and assigns.

    Raises `SyntaxError` and `ValueError` as the compiler does.
    """
    top, *inner = _scopes(program)
    bound = {s.get_name() for s in top.get_symbols() if _binds(s)}
    for scope in inner:
        bound |= {s.get_name() for s in scope.get_symbols() if s.is_declared_global() and _binds(s)}
    return frozenset(bound)


def unbound_names(program: str) -> frozenset[str]:
    """Names that `program` looks up among its globals, and neither it nor Python binds.

    Names that a star import would bring, or that only `globals()` would show, count as
    unbound. Raises as `bound_names` does.
    """
    top, *inner = _scopes(program)
    used = {s.get_name() for s in top.get_symbols() if s.is_referenced()}
    for scope in inner:
        used |= {s.get_name() for s in scope.get_symbols() if s.is_global() and s.is_referenced()}
    return frozenset(used) - bound_names(program) - _GIVEN


def names_asked_of(entry_point: str, test: str) -> tuple[str, ...]:
    """Names beside `entry_point` that the source `test` uses and leaves to the program to bind;
    none where it does not compile."""
    try:
        return tuple(sorted(unbound_names(test) - {entry_point}))
    except (SyntaxError, ValueError):
        return ()


def _scopes(program: str) -> Iterator[symtable.SymbolTable]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model's invalid escape sequence
        todo = [symtable.symtable(program, "<answer>", "exec")]
    while todo:
        scope = todo.pop()
        yield scope
        todo += scope.get_children()


def _binds(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
