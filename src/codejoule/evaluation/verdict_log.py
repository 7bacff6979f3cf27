"""Verdicts on disk as they come, each under what it depends on."""

import errno
import json
import logging
import os
from pathlib import Path
from typing import Any, Self

from codejoule.config import UserError, full_disk
from codejoule.domain import Verdict, from_json, to_json

_LOGGER = logging.getLogger(__name__)


class VerdictLog:
    """A JSONL file of verdicts, ``{"key": identity, "verdict": {...}}`` per line.

    A verdict that `add` has returned from outlives this process, however it ends. What cannot
    be read (half a line, or one by another version) is no verdict: its sample is judged anew.
    Several processes may add to one file, each line being written at once.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        """Open `path`, made where missing; with `fresh` what it holds is not looked at."""
        self.path = path
        self._verdicts: dict[str, Verdict] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
            self._file = os.open(path, flags, 0o644)
            content = path.read_bytes()
            if content and not content.endswith(b"\n"):
                # A writer was killed in mid-line; what follows must not become part of it.
                os.write(self._file, b"\n")
        except OSError as error:
            raise self._unwritable(error) from error
        if not fresh:
            self._read(content)

    def _read(self, content: bytes) -> None:
        unread = 0
        for line in filter(bytes.strip, content.split(b"\n")):
            try:
                row: dict[str, Any] = json.loads(line)
                self._verdicts[row["key"]] = from_json(Verdict, row["verdict"])
            except (ValueError, KeyError, TypeError):
                unread += 1
        if unread:
            _LOGGER.warning("%s: %d lines are no verdicts; left out", self.path, unread)

    def find(self, key: str) -> Verdict | None:
        """The verdict under `key`, the last one added; None where there is none."""
        return self._verdicts.get(key)

    def add(self, key: str, verdict: Verdict) -> None:
        """Keep `verdict` under `key`; raises UserError where the disk does not take it."""
        line = json.dumps({"key": key, "verdict": to_json(verdict)}).encode("ascii") + b"\n"
        try:
            written = os.write(self._file, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise self._unwritable(error) from error
        self._verdicts[key] = verdict

    def _unwritable(self, error: OSError) -> UserError:
        why = full_disk(error, self.path) or error.strerror
        return UserError(f"{self.path}: cannot be written: {why}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
