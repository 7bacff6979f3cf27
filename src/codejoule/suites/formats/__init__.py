"""One module per schema of a suite's rows.

A module here has ``COLUMNS`` (the columns a row must have) and ``convert(row) -> Task``; its
name is what ``suite.format`` chooses. To support another schema, add a module. It may also have
``OTHER_COLUMNS`` (what else it reads, or knows to change no verdict), ``recognizes(row)``, where
the columns alone do not tell its rows, and ``prompts(row, shown)``, where its prompts have the
tests in them.
"""

import importlib
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass

from codejoule.config import ConfigError
from codejoule.domain import Task
from codejoule.suites.rows import Row

__all__ = ["Format", "format_names", "get_format", "recognize", "refuse_unread"]

_TESTS = re.compile(
    r"tests?|testcases?|asserts?|assertions?|inputs?|outputs?|expected|oracle|checker|check|setup"
    r"|contract"
)
"""Words in the names of columns that hold tests, or parts of them."""

_BOUNDS = re.compile(r"[ar]?tol|tolerance|timeout|time_?limit|memory_?limit|limits?")
"""Words in the names of columns that hold a bound: there a number counts, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One schema."""

    name: str
    """What ``suite.format`` calls it."""
    columns: tuple[str, ...]
    """Columns that a row must have."""
    other_columns: tuple[str, ...]
    """Further columns that it reads, or knows to change no verdict."""
    recognizes: Callable[[Row], bool] | None
    """Whether a row is of this schema, where its columns do not say so."""
    convert: Callable[[Row], Task]
    """The task that a row stands for; raises `ConfigError` for a faulty row."""
    prompts: Callable[[Row, int], tuple[str, str]] | None
    """The prompts of both splits with so many of the tests, the first ones, where a schema's
    prompts have its tests in them."""


def format_names() -> tuple[str, ...]:
    """Choices of ``suite.format``."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def get_format(name: str) -> Format:
    """The format of that name; `ConfigError` lists the choices if there is none."""
    if name not in format_names():
        raise ConfigError(
            f"suite.format={name}: no such format; choose one of {', '.join(format_names())}"
        )
    module = importlib.import_module(f"{__name__}.{name}")
    return Format(
        name=name,
        columns=module.COLUMNS,
        other_columns=getattr(module, "OTHER_COLUMNS", ()),
        recognizes=getattr(module, "recognizes", None),
        convert=module.convert,
        prompts=getattr(module, "prompts", None),
    )


def recognize(row: Row) -> Format:
    """The format that recognizes `row`, else the one whose columns it has; BigCodeBench's where
    none fits."""
    formats = [get_format(name) for name in format_names()]
    fitting = [f for f in formats if f.recognizes is not None and f.recognizes(row)]
    fitting += [f for f in formats if f.recognizes is None and set(f.columns) <= row.values.keys()]
    return fitting[0] if fitting else get_format("bigcodebench")


def refuse_unread(row: Row, file_format: Format) -> None:
    """Raise `ConfigError` for a column that `file_format` does not read, if its name is that of
    tests, tolerances or limits and its cell is not empty: without it verdicts would be others.
    Columns of other names are the user's own, and so is a mere number under a test's name
    (``test_count``), and a name that begins with an underscore."""
    read = {*file_format.columns, *file_format.other_columns}
    for column, value in row.values.items():
        if column not in read and value and _decides(column, value):
            raise row.fault(f"column {column} {_advice(row, column, file_format)}")


def _decides(column: str, value: object) -> bool:
    if column.startswith("_"):
        return False
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column).lower()
    words = re.split(r"[^a-z0-9]+", name)
    holds_tests = isinstance(value, str | list | dict) and any(map(_TESTS.fullmatch, words))
    return holds_tests or any(map(_BOUNDS.fullmatch, [*words, name]))


def _advice(row: Row, column: str, file_format: Format) -> str:
    better = recognize(row).name
    if better != file_format.name:
        return f"is not read by suite.format={file_format.name}; suite.format={better} reads it"
    return (
        f"may hold what decides a verdict, and suite.format={file_format.name} does not read it: "
        f"put its tests where that schema has them, or, if no verdict depends on it, call it "
        f"_{column} or leave it out"
    )
