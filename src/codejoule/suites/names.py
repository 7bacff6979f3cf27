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
    return frozenset(
        s.get_name()
        for s, at_top in _symbols(program)
        if (at_top or s.is_declared_global())
        and (s.is_assigned() or s.is_imported() or s.is_namespace())
    )


def unbound_names(program: str) -> frozenset[str]:
    """Names that `program` looks up among its globals, and neither it nor Python binds.

    Names that a star import would bring, or that only `globals()` would show, count as
    unbound. Raises as `bound_names` does.
    """
    used = frozenset(
        s.get_name()
        for s, at_top in _symbols(program)
        if (at_top or s.is_global()) and s.is_referenced()
    )
    return used - bound_names(program) - _GIVEN


def names_asked_of(entry_point: str, test: str) -> tuple[str, ...]:
    """Names beside `entry_point` that the source `test` uses and leaves to the program to bind;
    none where it does not compile."""
    try:
        return tuple(sorted(unbound_names(test) - {entry_point}))
    except (SyntaxError, ValueError):
        return ()


def _symbols(program: str) -> Iterator[tuple[symtable.Symbol, bool]]:
    """Every scope's names, and whether the scope is the program's top level."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model's invalid escape sequence
        todo = [symtable.symtable(program, "<answer>", "exec")]
    while todo:
        scope = todo.pop()
        yield from ((symbol, scope.get_type() == "module") for symbol in scope.get_symbols())
        todo += scope.get_children()
