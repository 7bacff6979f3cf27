"""The thesis' tables as files."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from io import StringIO
from pathlib import Path
from typing import Any

from codejoule.config import write_whole
from codejoule.thesis.estimator import figure_checks, thesis_tables


def write_csv(path: Path, records: Sequence[Any]) -> None:
    """One row per dataclass of one kind, under its fields' names; `UserError` where the file cannot
    be written."""
    content = StringIO(newline="")
    writer = csv.writer(content)
    writer.writerow(field.name for field in fields(records[0]))
    writer.writerows(map(astuple, records))
    write_whole(path, content.getvalue())


def write_tables(folder: Path, tables: Mapping[str, Sequence[Any]]) -> list[Path]:
    """Each table in a CSV file of its name; what was written."""
    for name, records in tables.items():
        write_csv(folder / name, records)
    return [folder / name for name in tables]


def write_estimates(folder: Path) -> list[Path]:
    """The estimator's tables computed anew, and what its text says of its figures, as CSV.

    Raises `UserError` where the folder cannot be written.
    """
    return write_tables(
        folder, {"tables.csv": thesis_tables(), "figure_checks.csv": figure_checks()}
    )
