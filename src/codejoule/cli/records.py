"""Frozen facts as a CSV file."""

import csv
from collections.abc import Sequence
from dataclasses import astuple, fields
from io import StringIO
from pathlib import Path
from typing import Any

from codejoule.config import write_whole


def write_csv(path: Path, records: Sequence[Any]) -> None:
    """One row per dataclass of one kind, under its fields' names; `UserError` where the file cannot
    be written."""
    content = StringIO(newline="")
    writer = csv.writer(content)
    writer.writerow(field.name for field in fields(records[0]))
    writer.writerows(map(astuple, records))
    write_whole(path, content.getvalue())
