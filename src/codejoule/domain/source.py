"""The text of a program: its lines, and how several texts become one program."""

import ast
import io
import re
import warnings
from collections.abc import Sequence
from functools import lru_cache

BOM = "\ufeff"
"""The byte-order mark that some editors write in front of a text; no parser takes it."""
_IMPORT_LINE = re.compile(r"\s*(?:import|from)\s")


def source_lines(text: str) -> list[str]:
    """Cut `text` into lines where Python's parser does.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    list of str
        The lines with their breaks, which are ``\\n``, ``\\r\\n`` and ``\\r`` alone
        (`str.splitlines` knows eight more). ``"".join`` gives `text` back.
    """
    return list(io.StringIO(text, newline=""))


def preamble(code_prompt: str) -> str:
    """What stands in front of a solution.

    Parameters
    ----------
    code_prompt : str
        Imports and helpers, which may end in a signature.

    Returns
    -------
    str
        The same as a program: a signature at its end has the body ``pass``, as BigCodeBench's
        evaluator writes it.
    """
    return code_prompt if _parse(code_prompt) is not None else f"{code_prompt}\n    pass"


def future_first(parts: Sequence[str]) -> list[str]:
    """Lift imports from ``__future__`` to the top.

    Parameters
    ----------
    parts : sequence of str
        Texts that are to become one program, in their order.

    Returns
    -------
    list of str
        The texts, without byte-order marks in front. What a later one imports from
        ``__future__``, where that is right by itself, stands in front of the first: between
        other code Python takes it for a mistake.
    """
    texts = [part.removeprefix(BOM) for part in parts]
    lifted = [_without_future(text) for text in texts]
    if not any(future for future, _ in lifted[1:]):
        return texts
    top = dict.fromkeys(line for future, _ in lifted for line in future)
    first, *others = [rest for _, rest in lifted]
    return ["".join(f"{line}\n" for line in top) + first, *others]


def join_sources(parts: Sequence[str]) -> str:
    """Put texts together to one program.

    Parameters
    ----------
    parts : sequence of str
        Programs, in their order.

    Returns
    -------
    str
        The program, each text on lines of its own, and as `future_first` has them.
    """
    return "".join(f"{text}\n" for text in future_first(parts) if text)


@lru_cache(maxsize=8192)
def imported_modules(source: str) -> tuple[str, ...]:
    """Modules that a program imports.

    Parameters
    ----------
    source : str
        A program, or a text that ends in the middle of one: what does not parse is read line by
        line.

    Returns
    -------
    tuple of str
        Their dotted names, each once, in the order of first mention.
    """
    found: dict[str, None] = {}
    for node in ast.walk(_parse_leniently(source)):
        if isinstance(node, ast.Import):
            found.update(dict.fromkeys(alias.name for alias in node.names))
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found[node.module] = None
    return tuple(found)


def _parse_leniently(source: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError):
            pass
        statements: list[ast.stmt] = []
        for line in filter(_IMPORT_LINE.match, source_lines(source)):
            try:
                statements += ast.parse(line.strip()).body
            except (SyntaxError, ValueError):
                continue
    return ast.Module(body=statements, type_ignores=[])


def _without_future(text: str) -> tuple[list[str], str]:
    """Imports from ``__future__`` in `text`, and the rest of it."""
    tree = _parse(text) if "__future__" in text else None
    found = [
        node
        for node in (tree.body if tree else ())
        if isinstance(node, ast.ImportFrom) and node.module == "__future__" and not node.level
    ]
    lines = source_lines(text)
    for node in reversed(found):
        assert node.end_lineno is not None and node.end_col_offset is not None
        before = lines[node.lineno - 1].encode()[: node.col_offset].decode()
        behind = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
        lines[node.lineno - 1 : node.end_lineno] = [f"{before}pass{behind}"]
    return [ast.unparse(node) for node in found], "".join(lines)


def _parse(text: str) -> ast.Module | None:
    """The syntax tree; None of what does not compile."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model's invalid escape sequence
        try:
            tree = ast.parse(text)
            compile(tree, "<program>", "exec", dont_inherit=True)  # knows where a future may stand
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return None
    return tree
