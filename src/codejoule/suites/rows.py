"""Rows of a suite's file: JSON lines, the same gzipped, or Parquet."""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from codejoule.config import ConfigError


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
        """The cell as text; `ConfigError` if it is anything else."""
        value = self.values[column]
        if not isinstance(value, str):
            raise self.fault(f"{column} must be text, not {_kind(value)}")
        return value

    def texts(self, column: str) -> tuple[str, ...]:
        """The cell as a list of texts; `ConfigError` if it is anything else."""
        value = self.values[column]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.fault(f"{column} must be a list of texts, not {_kind(value)}")
        return tuple(value)

    def number(self, column: str) -> float:
        """The cell as a number; `ConfigError` if it is anything else."""
        value = self.values[column]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fault(f"{column} must be a number, not {_kind(value)}")
        return value

    def inputs(self, column: str) -> list[list[object]]:
        """The cell as a list of lists of arguments; `ConfigError` if it is anything else."""
        # EvalPlus writes {} where there are none.
        value = self.values[column] or []
        if not isinstance(value, list) or not all(isinstance(item, list) for item in value):
            raise self.fault(f"{column} must be a list of lists of arguments, not {_kind(value)}")
        return value

    def fault(self, what: str) -> ConfigError:
        """The error for a row that is not as its schema says."""
        return ConfigError(f"{self.where}: {what}; see docs/suites.md for the schemas")


def read_rows(path: Path) -> list[Row]:
    """All rows of `path`, at least one.

    Raises `ConfigError` naming file and line for a file that is missing, of another kind,
    damaged or empty.
    """
    if not path.is_file():
        raise ConfigError(f"suite.path={path}: no such file; name a .jsonl, .jsonl.gz or .parquet")
    name = path.name.lower()
    if name.endswith(".parquet"):
        rows = _read_parquet(path)
    elif name.endswith((".jsonl", ".jsonl.gz")):
        rows = list(_read_json_lines(path))
    else:
        raise ConfigError(
            f"suite.path={path}: unknown kind of file; a suite is read from .jsonl (one JSON "
            "object per line), .jsonl.gz or .parquet"
        )
    if not rows:
        raise ConfigError(f"suite.path={path}: the file has no rows; a suite needs at least 1 task")
    return rows


def _read_json_lines(path: Path) -> Iterator[Row]:
    try:
        with _open_binary(path) as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    where = f"{path}, line {number}"
                    yield Row(where=where, values=_object(line, where))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ConfigError(f"suite.path={path}: not a whole gzip file ({error})") from error


def _open_binary(path: Path) -> AbstractContextManager[Iterable[bytes]]:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")


def _object(line: bytes, where: str) -> dict[str, object]:
    try:
        value = json.loads(line.rstrip(b"\r\n").decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: not UTF-8 (byte {error.start + 1} of the line)") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: a row must be a JSON object, not {_kind(value)}")
    return value


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        said = str(error).splitlines()[0]
        raise ConfigError(f"suite.path={path}: not a readable Parquet file ({said})") from error
    return [
        Row(where=f"{path}, row {number}", values=values)
        for number, values in enumerate(table.to_pylist(), 1)
    ]


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"{type(value).__name__} ({str(value)[:40]})"
