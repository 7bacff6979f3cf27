"""The log file of a job, which takes what libraries write to the terminal."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def log_file() -> Path | None:
    """The file that logging writes to, by Hydra's configuration; None where it writes to none."""
    files = [h for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler)]
    return Path(files[0].baseFilename) if files else None


@contextmanager
def output_in(file: Path | None) -> Iterator[None]:
    """Inside, all that this process writes to standard output and error, libraries in C and
    processes that it starts included, goes to the end of `file`. Where that is None, or cannot be
    opened, nothing changes."""
    taken = None
    if file is not None:
        with suppress(OSError):  # a full disk; what fails for it says so itself
            taken = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    if taken is None:
        yield
        return
    _flush()
    before = [os.dup(number) for number in (1, 2)]
    _put((taken, taken))
    os.close(taken)
    try:
        yield
    finally:
        _flush()
        _put(before)
        for each in before:
            os.close(each)


def _put(files: "list[int] | tuple[int, int]") -> None:
    for number, file in enumerate(files, start=1):
        os.dup2(file, number)


def _flush() -> None:
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(OSError, ValueError):
            stream.flush()
