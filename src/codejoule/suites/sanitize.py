"""Turns a model's text into the program that is judged.

The rules are those of BigCodeBench 0.2.5, oddities included, so that verdicts compare with
published ones. Upstream parses with tree-sitter, this module with `ast`; where the two see
different nodes, tree-sitter's view is followed. `docs/reference/suites.md` lists the rules.
"""

import ast
import bisect
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise

from codejoule.domain import BOM, source_lines
from codejoule.suites.grammar import parse

_AFTER_LAST_STATEMENT = re.compile(rb"[ \t\f]*(;)?[ \t\f]*(#[^\r\n]*)?")
_CONTINUED_HEADER = re.compile(rb":[ \t]*\\(?:\r\n|\r|\n)\Z")
_TAB_WIDTH = 8
"""Columns of a tab where indentation is compared (tree-sitter's count)."""


def sanitize(code: str, entry_point: str, tested_names: Collection[str] = ()) -> str:
    """Cut `code` down to its imports and the definitions that `entry_point` reaches, or that the
    tests ask for by name. Text around the program (prose, a closing fence, a broken tail) falls
    away. Where nothing of use is left the longest parseable span comes back, so that the judge can
    say what is wrong with it. Never raises: unparseable text is an answer like any other."""
    code = code.removeprefix(BOM)
    span = longest_parseable_span(code.strip())
    parses = _error_line(span) is None
    program = _program(span, entry_point, tested_names) if parses else ""
    return program.strip() or longest_parseable_span(code)


def longest_parseable_span(text: str) -> str:
    """The run of two or more lines that parses and has most lines that are not blank. The first
    such run wins a tie; where none parses, the first line is the answer."""
    lines = source_lines(text)
    if not lines or lines[-1].endswith(("\n", "\r")):
        lines.append("")  # upstream counts what follows the last break as a line
    filled = [0]
    for line in lines:
        filled.append(filled[-1] + bool(line.strip()))
    best, first, end = 0, 0, 1
    for start in range(len(lines)):
        if filled[-1] - filled[start] <= best:
            break
        least = next(i for i, count in enumerate(filled) if count - filled[start] > best)
        found = _longest_run(lines, start, max(least, start + 2))
        if found is not None:
            best, first, end = filled[found] - filled[start], start, found
    return _joined(lines[first:end])


def _joined(run: Sequence[str]) -> str:
    """A run of lines without the break behind it."""
    return "".join([*run[:-1], run[-1].rstrip("\r\n")])


def _longest_run(lines: Sequence[str], start: int, least: int) -> int | None:
    """End of the longest run of lines from `start` that parses, blank lines at its end left
    out; None where no run that ends at `least` or later does."""
    end = len(lines)
    while end >= least:
        error_line = _error_line(_joined(lines[start:end]))
        if error_line is None:
            while end > least and not lines[end - 1].strip():
                if _error_line(_joined(lines[start : end - 1])) is not None:
                    break
                end -= 1
            return end
        # The parser reads from left to right: a shorter run that still holds the faulty line
        # fails as well.
        end = min(end - 1, start + error_line - 1)
    return None


def _error_line(text: str) -> int | None:
    """Line of the syntax error, from 1; None where `text` parses."""
    try:
        parse(text)
    except SyntaxError as error:
        return len(text) if error.lineno is None else error.lineno
    except (ValueError, MemoryError, RecursionError):
        return len(text)
    return None


def _program(span: str, entry_point: str, tested_names: Collection[str]) -> str:
    source, tree = _Source(span), parse(span)
    imports = [source.text(node) for node in tree.body if _is_import(node)]
    definitions: dict[str, ast.stmt] = {}
    for node in tree.body:
        name = _defined_name(node)
        if name is not None:
            definitions.setdefault(name, node)
    reachable = _reachable({entry_point, *tested_names}, definitions)
    kept = [source.text(node) for name, node in definitions.items() if name in reachable]
    return _without_trailing_use("\n".join(imports + kept), entry_point)


def _is_import(node: ast.stmt) -> bool:
    # `from __future__` is a node of its own kind to tree-sitter, and upstream drops it.
    if isinstance(node, ast.ImportFrom):
        return node.level > 0 or node.module != "__future__"
    return isinstance(node, ast.Import)


def _defined_name(node: ast.stmt) -> str | None:
    """Name that a top-level statement defines by upstream's rules, else None."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        # A decorated definition is a node of another kind to tree-sitter; it is dropped.
        return None if node.decorator_list else node.name
    if isinstance(node, ast.Assign):
        # The first plain name among an assignment's operands counts as its name, even where
        # that is the value (`a.b = c` defines "c"); `x = y = 1` nests, so ends with `x`.
        operands = [node.targets[0], *([node.value] if len(node.targets) == 1 else [])]
    elif isinstance(node, ast.AnnAssign):
        operands = [node.target, *([node.value] if node.value else [])]
    else:
        return None
    return next((operand.id for operand in operands if isinstance(operand, ast.Name)), None)


def _reachable(wanted: Collection[str], definitions: Mapping[str, ast.stmt]) -> set[str]:
    """Every identifier that can be reached from those `wanted` through definitions."""
    reached, todo = set(wanted), list(wanted)
    while todo:
        node = definitions.get(todo.pop())
        fresh = set() if node is None else set(_identifiers(node)) - reached
        reached |= fresh
        todo += fresh
    return reached


_IDENTIFIER_FIELDS = frozenset(
    {"id", "attr", "arg", "name", "asname", "module", "names", "rest", "kwd_attrs"}
)
"""Fields of `ast` nodes that hold identifiers, whatever their role: upstream counts them all."""


def _identifiers(node: ast.AST) -> Iterator[str]:
    for child in ast.walk(node):
        for field, value in ast.iter_fields(child):
            if field not in _IDENTIFIER_FIELDS:
                continue
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, str):
                    yield from item.split(".")


def _without_trailing_use(program: str, entry_point: str) -> str:
    """Drop the lines from the first unindented one in the tail that mentions `entry_point`. The
    tail is what follows the last indented line, so a use of the function after its definition goes;
    so does a definition on one line, an oddity that is kept."""
    lines = source_lines(program)
    tail = len(lines)
    while tail > 0 and not lines[tail - 1].startswith((" ", "\t")):
        tail -= 1
    uses = [i for i in range(tail, len(lines)) if entry_point in lines[i]]
    return "".join(lines[: uses[0]]) if uses else program


class _Source:
    """Source text of top-level statements, cut where tree-sitter cuts it."""

    def __init__(self, text: str) -> None:
        self._bytes = text.encode()
        lengths = (len(line.encode()) for line in source_lines(text))
        self._line_starts = [0, *accumulate(lengths)]

    def text(self, node: ast.stmt) -> str:
        start = self._offset(node.lineno, node.col_offset)
        assert node.end_lineno is not None and node.end_col_offset is not None
        end = self._offset(node.end_lineno, node.end_col_offset)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            end = self._end_of_block(end, node.body[0])
        return self._bytes[start:end].decode()

    def _offset(self, line: int, column: int) -> int:
        return self._line_starts[line - 1] + column

    def _end_of_block(self, end: int, first: ast.stmt) -> int:
        """A definition ends with the comments behind its last statement, and below it as far
        as they are indented like its body."""
        behind = _AFTER_LAST_STATEMENT.match(self._bytes, end)
        assert behind is not None
        end = max(end, behind.end(1), behind.end(2))
        body_line = self._line_starts[first.lineno - 1]
        indent = self._bytes[body_line : body_line + first.col_offset]
        if indent.strip() or _CONTINUED_HEADER.search(self._bytes[:body_line][-80:]):
            return end  # the body stands on the line of the colon: it has no block
        below = bisect.bisect_left(self._line_starts, end)
        for start, stop in pairwise(self._line_starts[below:]):
            line = self._bytes[start:stop].rstrip(b"\r\n")
            comment = line.lstrip()
            if not comment:
                continue
            if not comment.startswith(b"#") or _width(line, comment) < _width(indent, b""):
                break
            end = start + len(line)
        return end


def _width(line: bytes, rest: bytes) -> int:
    """Columns of the white space before `rest`."""
    space = line[: len(line) - len(rest)]
    space = space.rpartition(b"\f")[2]  # a form feed puts the column back to 0
    return len(space) + (_TAB_WIDTH - 1) * space.count(b"\t")
