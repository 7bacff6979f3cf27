"""Frozen facts as a CSV file."""

import csv
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any


def write_csv(path: Path, records: Sequence[Any]) -> None:
    """One row per dataclass of one kind, under its fields' names."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(records[0]))
        writer.writerows(map(astuple, records))
