"""What a format of published figures is, and the file that it reads."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from statistics import fmean
from typing import Any

from codejoule.config import UserError
from codejoule.published.figures import MEASURED, PublishedFigure


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file as it is."""

    path: Path
    """Where it is."""
    data: Any
    """The content of a JSON file; of a CSV file its rows, by the names of the columns."""
    is_csv: bool
    """Which of both it is."""

    @property
    def columns(self) -> frozenset[str]:
        """The columns of a CSV file."""
        return frozenset(self.data[0]) if self.is_csv and self.data else frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a format found in a file."""

    figures: tuple[PublishedFigure, ...]
    """The figures."""
    left_out: tuple[str, ...] = ()
    """A sentence for each kind of row that holds none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One layout of a file."""

    name: str
    """Its name."""
    what: str
    """What such a file is, in words."""
    recognizes: Callable[[Document], bool]
    """Whether a file has this layout."""
    read: Callable[[Document], Reading]
    """The figures in it; raises `UserError` for a faulty row, and says which."""


def open_document(path: Path) -> Document:
    """Read a file whole. Raises `UserError` where it cannot be read, or is neither CSV nor JSON."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if path.suffix.lower() == ".json":
        try:
            return Document(path=path, data=json.loads(text), is_csv=False)
        except ValueError as error:
            raise UserError(f"{path} is not JSON: {error}") from error
    if path.suffix.lower() == ".csv":
        return Document(path=path, data=list(csv.DictReader(StringIO(text))), is_csv=True)
    raise UserError(f"{path}: a file ending in .csv or .json is expected")


@contextmanager
def named_row(document: Document, number: int) -> Iterator[None]:
    """Say of a `UserError`, and of a cell that is missing or no number, in which row it was."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{document.path}, row {number}: {error}") from error
    except KeyError as error:
        raise UserError(f"{document.path}, row {number}: {error} is missing") from error
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{document.path}, row {number}: {error}") from error


def merged(figures: Sequence[PublishedFigure]) -> tuple[PublishedFigure, ...]:
    """Repeats of one configuration as their mean, in the order of the first ones."""
    groups: dict[tuple[object, ...], list[PublishedFigure]] = {}
    for figure in figures:
        groups.setdefault(figure.configuration, []).append(figure)
    return tuple(own[0] if len(own) == 1 else _mean(own) for own in groups.values())


def _mean(repeats: Sequence[PublishedFigure]) -> PublishedFigure:
    means: dict[str, Any] = {
        name: fmean(getattr(each, name) for each in repeats)
        for name in MEASURED
        if all(getattr(each, name) is not None for each in repeats)
    }
    return replace(repeats[0], **means, runs=sum(each.runs or 1 for each in repeats))


def refuse_doubles(document: Document, figures: Sequence[PublishedFigure]) -> None:
    """Raise `UserError` where two rows say what they measured in the same words."""
    seen: dict[tuple[object, ...], int] = {}
    for number, figure in enumerate(figures, start=1):
        first = seen.setdefault(figure.configuration, number)
        if first != number:
            raise UserError(
                f"{document.path}: rows {first} and {number} are of the same configuration "
                f"({figure.model}, {figure.quantization}, batch {figure.batch}, {figure.card}); "
                "tell them apart in the column settings, or give their mean and its runs"
            )
