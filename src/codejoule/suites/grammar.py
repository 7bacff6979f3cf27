"""Python's grammar as of 3.11, whatever interpreter runs this, and the names of a program.

Which lines of an answer belong to its program depends on what parses. Python 3.12 accepts
f-strings that 3.11 refuses (PEP 701), so without this the same answer would become different
programs on different interpreters, and published scores were made on 3.10 and 3.11.
"""

import ast
import builtins
import re
import string
import symtable
import sys
import tokenize
import warnings
from collections.abc import Iterator

from codejoule.domain import source_lines

_VERSION = (3, 11)
_GIVEN_BY_PYTHON = frozenset(dir(builtins)) | {"__file__", "__builtins__", "__annotations__"}
_MAY_HOLD_FSTRING = re.compile(r"""(?i)(?:\bf|\br?fr?)['"]""")


def parse(text: str) -> ast.Module:
    """The syntax tree of `text`; raises as `ast.parse` does, and `SyntaxError` besides for
    what is no Python 3.11."""
    # The parser itself takes a backslash at the end before "\r\n", and refuses it before "\n".
    text = re.sub(r"\r\n?", "\n", text)
    with warnings.catch_warnings():
        # The user need not see a warning about a model's invalid escape sequence.
        warnings.simplefilter("ignore")
        tree = ast.parse(text, feature_version=_VERSION)
        if sys.version_info >= (3, 12) and _MAY_HOLD_FSTRING.search(text):
            _refuse_newer_fstrings(text)
    return tree


if sys.version_info >= (3, 12):

    def _refuse_newer_fstrings(text: str) -> None:
        lines = [line.rstrip("\r\n") + "\n" for line in source_lines(text)]
        starts: list[tuple[int, int]] = []
        for token in tokenize.generate_tokens(iter(lines).__next__):
            literal = token.type == tokenize.FSTRING_MIDDLE and len(starts) == 1
            if token.type == tokenize.FSTRING_START:
                starts.append(token.start)
            elif token.type == tokenize.FSTRING_END:
                start = starts.pop()
                rows = lines[start[0] - 1 : token.end[0]]
                rows[-1] = rows[-1][: token.end[1]]
                rows[0] = rows[0][start[1] :]
                if not _is_one_string("".join(rows)):
                    raise _error("the f-string ends at the first of its quotes", start)
            elif (
                starts and not literal and ("\\" in token.string or token.type == tokenize.COMMENT)
            ):
                raise _error("no backslash or comment in an f-string's expression", starts[0])


def _is_one_string(source: str) -> bool:
    """Whether `source`, braces not regarded, is one string literal from end to end."""
    quoted = source.lstrip(string.ascii_letters)
    quote = quoted[:3] if quoted[:3] in ("'''", '"""') and len(quoted) >= 6 else quoted[:1]
    body = quoted[len(quote) : -len(quote)]
    unescaped = re.sub(r"\\.", "", body, flags=re.DOTALL)
    return quote not in unescaped and (len(quote) == 3 or "\n" not in unescaped)


def _error(message: str, at: tuple[int, int]) -> SyntaxError:
    return SyntaxError(f"{message} (Python 3.11)", ("<answer>", at[0], at[1] + 1, None))


def bound_names(program: str) -> frozenset[str]:
    """Names that `program` binds at its top level or declares global and assigns. Raises
    `SyntaxError` and `ValueError` as the compiler does."""
    return frozenset(
        s.get_name()
        for s, at_top in _symbols(program)
        if (at_top or s.is_declared_global())
        and (s.is_assigned() or s.is_imported() or s.is_namespace())
    )


def unbound_names(program: str) -> frozenset[str]:
    """Names that `program` looks up among its globals, and neither it nor Python binds. Names that
    a star import would bring, or that only `globals()` would show, count as unbound. Raises as
    `bound_names` does."""
    used = frozenset(
        s.get_name()
        for s, at_top in _symbols(program)
        if (at_top or s.is_global()) and s.is_referenced()
    )
    return used - bound_names(program) - _GIVEN_BY_PYTHON


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
