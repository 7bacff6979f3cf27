"""Reads users' files piece by piece, within bounds, and refuses them by name and line."""

import gzip
import json
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from codejoule.config import ConfigError

MOST_BYTES = 2**30
"""Largest content of one file, or of one folder of programs, unpacked [bytes]."""
MOST_LINE_BYTES = 2**25
"""Longest line, and largest file of one program [bytes]; no sandbox takes a larger one."""


def read_lines(path: Path, what: str) -> Iterator[tuple[str, bytes]]:
    """Each line of `path` (unpacked where it ends in ``.gz``) that is not blank, with its break,
    and after file and number for messages. Only one line is held at a time. `what` the file is of,
    e.g. ``samples``, stands in messages. Raises ConfigError for a file that is missing, no regular
    file, damaged, or larger than the bounds allow."""
    with open_file(path, what) as stream:
        number = total = 0
        while line := stream.readline(MOST_LINE_BYTES + 1):
            number += 1
            total += len(line)
            where = f"{path}, line {number}"
            check_size(where, len(line), MOST_LINE_BYTES)
            check_size(path, total, MOST_BYTES)
            if line.strip():
                yield where, line


def read_bytes(path: Path, what: str, *, most_bytes: int | None = None) -> bytes:
    """All of `path`, at most `most_bytes` (by default `MOST_BYTES`). Raises as `read_lines`."""
    most_bytes = MOST_BYTES if most_bytes is None else most_bytes
    with open_file(path, what) as stream:
        content = stream.read(most_bytes + 1)
    check_size(path, len(content), most_bytes)
    return content


def parse_json(where: str | Path, content: bytes) -> Any:
    """The value that `content` is, a byte-order mark in front left out. Raises ConfigError for
    what is not UTF-8, not JSON, or has a key twice, where one value would silently go."""
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        byte = error.start - content.rfind(b"\n", 0, error.start)
        raise ConfigError(f"{where}: not UTF-8 (byte {byte} of the line)") from error
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ConfigError(
            f"{where}: not JSON: {error.msg} at {line}column {error.colno}{_remedy(content)}"
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{where}: not JSON that can be read: nested too deeply") from error
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def parse_row(where: str, line: bytes) -> dict[str, Any]:
    """The JSON object on a line of a file of JSON lines. Raises as `parse_json` does."""
    row = parse_json(where, line.rstrip(b"\r\n"))
    if not isinstance(row, dict):
        raise ConfigError(
            f"{where}: a row must be a JSON object, not a {type(row).__name__}{_remedy(line)}"
        )
    return row


def check_size(where: str | Path, size_bytes: int, most_bytes: int) -> None:
    """Raise ConfigError for more than is read."""
    if size_bytes > most_bytes:
        raise ConfigError(
            f"{where}: larger than {most_bytes / 2**20:g} MiB, the most that is read (of a packed "
            "file: unpacked); split the file, or leave out what is no program"
        )


@contextmanager
def open_file(path: Path, what: str) -> Iterator[IO[bytes]]:
    """The content of `path`, unpacked where it ends in ``.gz``. Raises ConfigError for what is
    missing, no regular file, or turns out to be damaged while it is read."""
    try:
        # Opening a pipe would wait for a writer, and a device never ends.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(
                f"{path}: {'a folder' if path.is_dir() else 'a pipe or a device'}, not a file of "
                f"{what}; write {what} to a file, and name that"
            )
        packed = path.name.lower().endswith(".gz")
        with cast(IO[bytes], gzip.open(path) if packed else path.open("rb")) as stream:
            yield stream
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file of {what}") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ConfigError(f"{path}: not a whole gzip file ({error})") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object; leave one of them")
    return values


def _remedy(line: bytes) -> str:
    """What to do about files that are nearly JSON lines."""
    text = line.removeprefix(b"\xef\xbb\xbf").strip()
    if not text:
        return " (the file is empty)"
    if text.startswith(b"["):
        return "; the file is a JSON array: write one object per line (jq -c '.[]' FILE)"
    if text == b"{":
        return "; write each object on one line (jq -c . FILE)"
    if text.endswith(b"},"):
        return "; lines have no comma between them"
    if re.search(rb",\s*}$", text):
        return "; JSON has no comma before a closing bracket"
    return ""
