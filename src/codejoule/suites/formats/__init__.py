"""One module per schema of a suite's rows.

A module here has ``COLUMNS`` (the columns a row must have) and ``convert(row) -> Task``; its
name is what ``suite.format`` chooses. To support another schema, add a module. It may also have
``OTHER_COLUMNS`` (what else it reads, or knows to change no verdict) and ``recognizes(row)``,
where the columns alone do not tell its rows.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from codejoule.config import ConfigError
from codejoule.domain import Task
from codejoule.suites.rows import Row

__all__ = ["Format", "format_names", "get_format", "recognize"]


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
    )


def recognize(row: Row) -> Format:
    """The format that recognizes `row`, else the one whose columns it has; BigCodeBench's where
    none fits."""
    formats = [get_format(name) for name in format_names()]
    fitting = [f for f in formats if f.recognizes is not None and f.recognizes(row)]
    fitting += [f for f in formats if f.recognizes is None and set(f.columns) <= row.values.keys()]
    return fitting[0] if fitting else get_format("bigcodebench")
