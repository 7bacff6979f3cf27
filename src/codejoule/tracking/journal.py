"""The journal of a run: what it has finished is on disk before it goes on."""

import errno
import fcntl
import json
import logging
import os
import shutil
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from codejoule.common.lazily import Lazily
from codejoule.config import UserError, full_disk
from codejoule.tracking.entries import Entry

_Entry = TypeVar("_Entry", bound=Entry)
_guards: dict[Path, Callable[[], None]] = {}
"""What is asked before anything is written to the journal of a directory."""
_CLOSED = -1
_LAST_READ = 16
"""Entries of a sequence that are held in memory, for who asks for one several times."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_log = logging.getLogger(__name__)


class Journal:
    """Append-only record of one run, ``journal.jsonl`` in its own directory. An entry that `append`
    has returned from survives a kill and a power cut. Opening takes the directory for this process
    until `close` (or death): a second process gets a `UserError` with the holder's pid. An
    unfinished last line, which no `append` has returned from, is cut off; a damaged line before it
    is a `UserError` with its number. Entries stay on disk: what is held of one in memory are its
    place and its length."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "journal.jsonl"
        self._guard = _guards.get(directory.absolute(), _nothing)
        self._guard()
        self._index: dict[str, array[int]] = {}
        self._rounds: dict[int, Journal] = {}
        self._size = self._entries = 0
        with ExitStack() as held:
            held.callback(os.close, _take(directory / "journal.lock"))
            self._file, length = _open(self.path)
            held.callback(os.close, self._file)
            self._read()
            if dropped := length - self._size:
                _log.warning("%s: dropped an unfinished last line of %d bytes", self.path, dropped)
                os.ftruncate(self._file, self._size)
                os.fsync(self._file)
            self._held = held.pop_all()

    def append(self, entry: Entry) -> None:
        """Add one entry; on return it is on disk. Raises what `append_payload` raises."""
        self.append_payload(self._name(type(entry)), entry.payload())

    def entries(self, kind: type[_Entry]) -> Sequence[_Entry]:
        """All entries of one kind, in the order they were appended. Each is read when it is asked
        for, also after `close`, and held by nobody. Raises `UserError` for one that another version
        of codejoule has written otherwise."""

        @lru_cache(maxsize=_LAST_READ)
        def read(number: int) -> _Entry:
            index = self._index[self._name(kind)]
            entry, place, length = index[3 * number : 3 * number + 3]
            try:
                return kind.of_payload(self._payload(place, length))
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"{self.path}: entry {entry} ({kind.kind}) is of another version of "
                    f"codejoule ({type(error).__name__}: {error}), so this run cannot be "
                    f"continued; delete {self.path.parent} to run it afresh"
                ) from error

        return Lazily(self.count(kind), read)

    def of_round(self, number: int) -> "Journal":
        """This journal as one of a run's repair rounds sees it: samples and verdicts are those of
        the round alone, and everything else is common to all. The same object each time; the
        first round sees the journal itself."""
        if number == 1:
            return self
        return self._rounds.setdefault(number, _OfRound(self, number))

    def count(self, kind: type[Entry]) -> int:
        """How many entries of one kind there are."""
        return len(self._index.get(self._name(kind), ())) // 3

    def _name(self, kind: type[Entry]) -> str:
        return kind.kind

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
        self._note(kind, len(line))

    def payloads(self, kind: str) -> list[dict[str, Any]]:
        """Payloads of all entries of one kind, in the order they were appended."""
        index = self._index.get(kind, array("q"))
        return [self._payload(index[at + 1], index[at + 2]) for at in range(0, len(index), 3)]

    def _payload(self, place: int, length: int) -> dict[str, Any]:
        if self._file == _CLOSED:
            with self.path.open("rb", buffering=0) as file:
                line = os.pread(file.fileno(), length, place)
        else:
            line = os.pread(self._file, length, place)
        payload: dict[str, Any] = json.loads(line)["payload"]
        return payload

    def _note(self, kind: str, length: int) -> None:
        """Note an entry at the end: its number from 1, its place and its length [bytes]."""
        self._entries += 1
        self._index.setdefault(kind, array("q")).extend((self._entries, self._size, length))
        self._size += length

    def _read(self) -> None:
        """Note all whole entries."""
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                kind = _kind_of(line) if line.endswith(b"\n") else None
                if kind is not None:
                    self._note(kind, len(line))
                    continue
                rest = list(lines)
                # A power cut may leave a newline behind with zeros before it.
                if not rest:
                    return
                raise UserError(
                    f"{self.path}: line {number} of {number + _whole(rest)} is damaged, so what "
                    f"this run has done is not known; restore the file, or delete "
                    f"{self.path.parent} to run it afresh"
                )

    def close(self) -> None:
        """Give the directory back; nothing can be appended afterwards."""
        self._held.close()
        self._file = _CLOSED  # another file may be given its number

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _OfRound(Journal):
    """What `Journal.of_round` gives. Kinds of the round have its number behind their name."""

    def __init__(self, whole: Journal, number: int) -> None:
        # Not the parent's: the directory has been taken.
        self.path, self._index = whole.path, whole._index
        self._whole, self._number = whole, number

    def of_round(self, number: int) -> Journal:
        return self._whole.of_round(number)

    def append_payload(self, kind: str, payload: dict[str, Any]) -> None:
        self._whole.append_payload(kind, payload)

    def _payload(self, place: int, length: int) -> dict[str, Any]:
        return self._whole._payload(place, length)

    def _name(self, kind: type[Entry]) -> str:
        return f"{kind.kind}_{self._number}" if kind.of_round else kind.kind


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


def _open(path: Path) -> tuple[int, int]:
    """The file, made where missing, and its length [bytes]."""
    new = not path.exists()
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    if new:
        # The file's name must survive a power cut as well as its content.
        directory = os.open(path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
    return file, os.fstat(file).st_size


def _whole(lines: Sequence[bytes]) -> int:
    return sum(line.endswith(b"\n") for line in lines)


def _kind_of(line: bytes) -> str | None:
    """The kind of the entry on a line; None where it is no entry."""
    try:
        entry = json.loads(line)
        kind, payload = entry["kind"], entry["payload"]
    except (ValueError, KeyError, TypeError):
        return None
    return kind if isinstance(kind, str) and isinstance(payload, dict) else None


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
