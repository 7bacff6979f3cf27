"""Rows of a suite's file: JSON lines, the same gzipped, or Parquet."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from codejoule.common.files import MOST_BYTES, check_size, open_file, parse_row, read_lines
from codejoule.config import ConfigError, first_line
from codejoule.domain import BOM

_BATCH_ROWS = 16
"""Rows of a Parquet file that are unpacked at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row, and where it stands for the sake of error messages."""

    where: str
    """File and line, e.g. ``tasks.jsonl, line 3``."""
    values: Mapping[str, object]
    """Cells by column."""

    def require(self, columns: tuple[str, ...]) -> None:
        """Raise `ConfigError` naming the columns that are not there."""
        missing = [column for column in columns if column not in self.values]
        if missing:
            raise self.fault(
                f"column {', '.join(missing)} missing; a row has {', '.join(self.values) or 'none'}"
                f" and needs {', '.join(columns)}"
            )

    def text(self, column: str) -> str:
        """The cell as text, without a byte-order mark in front; `ConfigError` if it is anything
        else."""
        value = self.values[column]
        if not isinstance(value, str):
            raise self._wrong(column, "text")
        return value.removeprefix(BOM)

    def task_id(self, benchmark: str) -> str:
        """The cell ``task_id``; of a whole number, `benchmark` with that number. `ConfigError` if
        it is anything else, or would not show on a terminal as it is."""
        value = self.values["task_id"]
        if isinstance(value, int) and not isinstance(value, bool):
            return f"{benchmark}/{value}"
        if not isinstance(value, str) or not value.isprintable() or not value.strip():
            raise self._wrong("task_id", "printable text or a whole number")
        return value

    def texts(self, column: str) -> tuple[str, ...]:
        """The cell as a list of texts; `ConfigError` if it is anything else."""
        value = self.values[column]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(column, "a list of texts")
        return tuple(value)

    def number(self, column: str) -> float:
        """The cell as a number; `ConfigError` if it is anything else."""
        value = self.values[column]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(column, "a number")
        return value

    def inputs(self, column: str) -> list[list[object]]:
        """The cell as a list of lists of arguments; `ConfigError` if it is anything else."""
        # EvalPlus writes {} where there are none.
        value = self.values[column] or []
        if not isinstance(value, list) or not all(isinstance(item, list) for item in value):
            raise self._wrong(column, "a list of lists of arguments")
        return value

    def _wrong(self, column: str, need: str) -> ConfigError:
        return self.fault(f"{column} must be {need}, not {_kind(self.values[column])}")

    def fault(self, what: str) -> ConfigError:
        """The error for a row that is not as its schema says."""
        return ConfigError(
            f"{self.where}: {what}; codejoule's documentation, page Suites, has the schemas"
        )


def read_rows(path: Path) -> list[Row]:
    """All rows of `path`, at least one. Raises `ConfigError` naming file and line for a file that
    is missing, of another kind, damaged, empty or larger than any suite."""
    if not path.exists():
        raise ConfigError(f"suite.path={path}: no such file; name a .jsonl, .jsonl.gz or .parquet")
    name = path.name.lower()
    if name.endswith(".parquet"):
        rows = list(_read_parquet(path))
    elif name.endswith((".jsonl", ".jsonl.gz", ".json", ".json.gz")):
        lines = read_lines(path, "tasks")
        rows = [Row(where=where, values=parse_row(where, line)) for where, line in lines]
    else:
        raise ConfigError(
            f"suite.path={path}: unknown kind of file; a suite is read from .jsonl (one JSON "
            "object per line), .jsonl.gz or .parquet"
        )
    if not rows:
        raise ConfigError(f"suite.path={path}: the file has no rows; a suite needs at least 1 task")
    return rows


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        # Opened here, so that a pipe or a device is refused.
        with open_file(path, "tasks") as stream, pyarrow.parquet.ParquetFile(stream) as file:
            groups = [file.metadata.row_group(n) for n in range(file.num_row_groups)]
            check_size(path, sum(group.total_byte_size for group in groups), MOST_BYTES)
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                raise ConfigError(f"{path}: two columns have one name, of {', '.join(names)}")
            numbers, total = itertools.count(1), 0
            # What a column repeats is stored once: its size shows only here.
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                total += batch.nbytes
                check_size(path, total, MOST_BYTES)
                for values in batch.to_pylist():
                    yield Row(where=f"{path}, row {next(numbers)}", values=values)
    except (pyarrow.ArrowException, OSError) as error:
        said = first_line(error)
        raise ConfigError(f"suite.path={path}: not a readable Parquet file ({said})") from error


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    shown = repr(value[:40]) if isinstance(value, str) else str(value)[:40]
    return f"{type(value).__name__} ({shown})"
