"""The journal of a run: what it has finished is on disk before it goes on."""

import errno
import fcntl
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from codejoule.config import UserError, full_disk
from codejoule.tracking.entries import Entry

_Entry = TypeVar("_Entry", bound=Entry)
_guards: dict[Path, Callable[[], None]] = {}
"""What is asked before anything is written to the journal of a directory."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_log = logging.getLogger(__name__)


class Journal:
    """Append-only record of one run, ``journal.jsonl`` in its own directory. An entry that `append`
    has returned from survives a kill and a power cut. Opening takes the directory for this process
    until `close` (or death): a second process gets a `UserError` with the holder's pid. An
    unfinished last line, which no `append` has returned from, is cut off; a damaged line before it
    is a `UserError` with its number."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "journal.jsonl"
        self._guard = _guards.get(directory.absolute(), _nothing)
        self._guard()
        self._typed: dict[int, Entry] = {}
        with ExitStack() as held:
            held.callback(os.close, _take(directory / "journal.lock"))
            self._file, content = _open(self.path)
            held.callback(os.close, self._file)
            self._entries, self._size = _read(content, self.path)
            if dropped := len(content) - self._size:
                _log.warning("%s: dropped an unfinished last line of %d bytes", self.path, dropped)
                os.ftruncate(self._file, self._size)
                os.fsync(self._file)
            self._held = held.pop_all()

    def append(self, entry: Entry) -> None:
        """Add one entry; on return it is on disk. Raises what `append_payload` raises."""
        self.append_payload(entry.kind, entry.payload())

    def entries(self, kind: type[_Entry]) -> list[_Entry]:
        """All entries of one kind, in the order they were appended. Raises `UserError` for one that
        another version of codejoule has written otherwise."""
        found = []
        for number, (name, payload) in enumerate(self._entries):
            if name != kind.kind:
                continue
            if number not in self._typed:
                try:
                    self._typed[number] = kind.of_payload(payload)
                except (KeyError, TypeError, ValueError) as error:
                    raise UserError(
                        f"{self.path}: entry {number + 1} ({name}) is of another version of "
                        f"codejoule ({type(error).__name__}: {error}), so this run cannot be "
                        f"continued; delete {self.path.parent} to run it afresh"
                    ) from error
            entry = self._typed[number]
            assert isinstance(entry, kind)
            found.append(entry)
        return found

    def append_payload(self, kind: str, payload: dict[str, Any]) -> None:
        """Add one entry as JSON has it; on return it is on disk. NaN stays NaN. Raises `UserError`
        where the disk does not take it (the journal is then as before), TypeError for a payload
        that JSON cannot hold, and what the directory's guard raises."""
        self._guard()
        text = json.dumps({"kind": kind, "payload": payload})
        line = text.encode("ascii") + b"\n"
        try:
            _write_all(self._file, line)
            os.fsync(self._file)
        except OSError as error:
            # Half a line would sit in the middle once the disk has room again.
            os.ftruncate(self._file, self._size)
            again = f"{error.strerror}; mend that and start the same command again"
            raise UserError(
                f"{self.path}: cannot write to the run's journal: "
                f"{full_disk(error, self.path) or again}; it continues from here"
            ) from error
        self._size += len(line)
        # What a later process would read, so that both see tuples as lists.
        self._entries.append((kind, json.loads(text)["payload"]))

    def payloads(self, kind: str) -> list[dict[str, Any]]:
        """Payloads of all entries of one kind, in the order they were appended."""
        return [payload for name, payload in self._entries if name == kind]

    def close(self) -> None:
        """Give the directory back; the journal cannot be used afterwards."""
        self._held.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextmanager
def guarded(directory: Path, check: Callable[[], None]) -> Iterator[None]:
    """Inside, this process writes nothing to the journal in `directory` unless `check` returns."""
    _guards[directory.absolute()] = check
    try:
        yield
    finally:
        del _guards[directory.absolute()]


def detach(directory: Path) -> None:
    """Give the directory's journal to this process alone: what another one still has open is from
    here on a file of its own, and so is its lock."""
    journal = directory / "journal.jsonl"
    if journal.exists():
        copy = directory / "journal.jsonl.copy"
        shutil.copyfile(journal, copy)
        copy.replace(journal)
    (directory / "journal.lock").unlink(missing_ok=True)


def _nothing() -> None:
    """Asks nothing."""


def _take(path: Path) -> int:
    """Lock the directory; the kernel gives it back when this process ends, however it ends. Not
    every share has locks: the run's lease does not need them."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise UserError(
            f"{path}: process {holder} is working on this run; wait until it has ended, "
            f"or end it (kill {holder}) and start again"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode("ascii"), 0)
    return lock


def _open(path: Path) -> tuple[int, bytes]:
    new = not path.exists()
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    if new:
        # The file's name must survive a power cut as well as its content.
        directory = os.open(path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
    return file, path.read_bytes()


def _read(content: bytes, path: Path) -> tuple[list[tuple[str, dict[str, Any]]], int]:
    """All whole entries, and the length of what holds them [bytes]."""
    entries: list[tuple[str, dict[str, Any]]] = []
    size = 0
    *lines, torn = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        entry = _parse(line)
        if entry is None:
            # A power cut may leave a newline behind with zeros before it.
            if number == len(lines) and not torn:
                break
            raise UserError(
                f"{path}: line {number} of {len(lines)} is damaged, so what this run has done is "
                f"not known; restore the file, or delete {path.parent} to run it afresh"
            )
        entries.append(entry)
        size += len(line) + 1
    return entries, size


def _parse(line: bytes) -> tuple[str, dict[str, Any]] | None:
    try:
        entry = json.loads(line)
        kind, payload = entry["kind"], entry["payload"]
    except (ValueError, KeyError, TypeError):
        return None
    return (kind, payload) if isinstance(kind, str) and isinstance(payload, dict) else None


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
