"""The page of the Python interface: the signatures and docstrings of what ``codejoule`` offers."""

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass

import codejoule
from codejoule import api

_HEAD = """# Python API

This page is made from the docstrings of `codejoule.api`. [From Python](../guides/library.md) shows
each function at work.

These names, their parameters and the fields of what they return are public: they change only with
an entry in the list of changes. All other modules are private, except for what a page of this
documentation shows.
"""

_WIDTH = 80


def python_page() -> str:
    """The functions, then the types, in the order of ``codejoule.__all__``."""
    offered = [(name, getattr(api, name)) for name in codejoule.__all__]
    functions = [(name, each) for name, each in offered if inspect.isfunction(each)]
    types = [(name, each) for name, each in offered if inspect.isclass(each)]
    sections = [_HEAD, "## Functions\n"]
    for name, function in functions:
        sections.append(f"### `{name}`\n\n```python\ncodejoule.{name}{_signature(function)}\n```\n")
        sections.append(_markdown(inspect.getdoc(function) or ""))
    sections.append("## Types\n")
    for name, each in types:
        sections.append(f"### `{name}`\n\n{_markdown(inspect.getdoc(each) or '')}")
        sections += list(_fields(each))
    return "\n".join(sections) + "\n"


def _signature(function: Callable[..., object]) -> str:
    """Types by their own names; a line for each parameter where there are many."""
    text = re.sub(r"\b[a-z][\w.]*\.([A-Z]\w*)", r"\1", str(inspect.signature(function)))
    if len(text) < _WIDTH:
        return text
    given, _, returned = text.removeprefix("(").rpartition(") -> ")
    return "(\n    " + given.replace(", ", ",\n    ") + f",\n) -> {returned}"


def _markdown(docstring: str) -> str:
    """A numpydoc docstring: headings in bold, parameters as a list, examples as code."""
    text = re.sub(r"^(\w[\w ]*)\n-{3,}$", r"**\1**\n", docstring, flags=re.MULTILINE)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    # A parameter, and its description indented below it.
    text = re.sub(
        r"^(\S[^\n]*?)( : [^\n]+)?\n((?:    [^\n]+\n?)+)",
        lambda found: (
            f"- `{found[1]}`{f' ({found[2][3:]})' if found[2] else ''}: "
            f"{' '.join(found[3].split())}\n"
        ),
        text,
        flags=re.MULTILINE,
    )
    text = re.sub(r"(?:^>>> .*\n?|^\.\.\. .*\n?)+", _code, text, flags=re.MULTILINE)
    return text.rstrip() + "\n"


def _code(found: re.Match[str]) -> str:
    lines = [line[4:] for line in found[0].splitlines()]
    return "```python\n" + "\n".join(lines) + "\n```\n"


def _fields(kind: type) -> Iterator[str]:
    """A dataclass' fields, with the text below each."""
    if not is_dataclass(kind):
        return
    source = inspect.getsource(kind)
    yield "| field | meaning |\n|---|---|"
    for each in fields(kind):
        found = re.search(
            rf'^    {each.name}: [^\n]*\n(?:    """(.*?)""")?', source, re.MULTILINE | re.DOTALL
        )
        meaning = " ".join((found[1] or "").split()) if found else ""
        yield f"| `{each.name}` | {meaning.replace('``', '`').replace('|', chr(92) + '|')} |"
    yield ""
