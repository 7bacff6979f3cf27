"""A lease as files beside a run's journal, in a folder that several hosts may share.

The n-th owner of a run has the file with number n: whoever links the next number first is the next
owner. Making a link is atomic on NFS, other than flock, which not every mount passes on. The
owner's signs of life are the file's times, and what is appended to it says that he has ended, or
has lost it.

Files that say nothing any more are deleted, the lowest number first, by the owner after them or by
the last one. Whoever has slept meanwhile may then link a number that was another's before. He
finds that out by looking once more: the file of the owner before him is gone, or there is one with
a higher number. Then he takes his own back.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from codejoule.config import UserError, write_whole
from codejoule.tracking.lease.owner import LostLeaseError, Owner

_ENDED = "ended"
_LOST = "lost: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a file of a lease says."""

    number: int
    """Which owner it is of."""
    owner: Owner
    """Whose it is."""
    sign: int
    """Changes as long as he lives."""
    word: str
    """What was appended; empty while he has it."""


class LeaseFiles:
    """The files of one run's lease."""

    def __init__(self, folder: Path) -> None:
        """`folder` is that of the run's journal; they lie beside it."""
        self._folder = folder

    def file(self, number: int) -> Path:
        """That of one owner."""
        return self._folder.with_name(f"{self._folder.name}.lease-{number}")

    def last(self) -> Seen | None:
        """The last owner; None where there was none yet. Raises `UserError` for a file that is
        none of ours."""
        seen = (_read(self.file(number), number) for number in reversed(self._numbers()))
        return next(filter(None, seen), None)

    def _numbers(self) -> list[int]:
        """The numbers that there are, the lowest first."""
        start, found = f"{self._folder.name}.lease-", []
        with suppress(FileNotFoundError), os.scandir(self._folder.parent) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(start)]
            found = [number for name in names if (number := name.removeprefix(start)).isdecimal()]
        return sorted(map(int, found))

    def tidy(self, below: int) -> None:
        """Delete the files with smaller numbers."""
        for number in self._numbers():
            if number < below:
                self.file(number).unlink(missing_ok=True)

    def take(self, owner: Owner, after: Seen | None) -> "HeldFile | None":
        """Make `owner` the one who follows; None where another was faster. Raises `UserError` where
        nothing can be written."""
        number = 1 if after is None else after.number + 1
        place = self.file(number)
        draft = place.with_name(f"{place.name}.{owner.token}")
        write_whole(draft, owner.to_text() + "\n")
        try:
            with suppress(FileExistsError):
                os.link(draft, place)
            # NFS may have lost the answer to a link that it has made, and then says that it exists.
            won = draft.stat().st_nlink == 2
        except OSError as error:
            raise UserError(
                f"{place}: cannot be linked to ({error.strerror}), which is how hosts agree on who "
                "has a run; choose a folder on a file system that has links (tracking.dir=...)"
            ) from error
        finally:
            draft.unlink(missing_ok=True)
        if not won:
            return None
        gone = after is not None and not self.file(after.number).exists()
        if gone or self._numbers()[-1] > number:
            place.unlink()
            return None
        if after is not None and not after.word:
            _append(self.file(after.number), f"{_LOST}{owner} has taken the run over")
        # Who has lost the run reads in his file to whom.
        self.tidy(number if after is not None and after.word == _ENDED else number - 1)
        return HeldFile(place, number)


class HeldFile:
    """The file of this process."""

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number

    def renew(self) -> None:
        """Give a sign of life. Raises `LostLeaseError` where the run is another's."""
        self.check()
        with suppress(OSError):  # a share that is gone for a while
            now_ns = time.time_ns()
            os.utime(self.path, ns=(now_ns, now_ns))

    def check(self) -> None:
        """Raises `LostLeaseError` where the run is another's."""
        _check(_word(self.path))

    def lose(self, why: str) -> None:
        """Note that the run is another's, for processes that work for this one."""
        _append(self.path, f"{_LOST}{why}")

    def end(self) -> None:
        """Give it back."""
        _append(self.path, _ENDED)


class Fence:
    """Keeps a process that works for the owner of a lease from writing once he has lost it. While
    he is silent, it waits: he may be stopped, and then has to look first whether it is still
    his."""

    def __init__(
        self, path: Path, lease_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = path
        self.lease_s = lease_s
        self._clock = clock
        self._sign, self._seen_s = _sign(path), clock()

    def check(self) -> None:
        """Return once the owner has it for certain. Raises `LostLeaseError` where he has not."""
        while True:
            _check(_word(self.path))
            sign, now_s = _sign(self.path), self._clock()
            if sign != self._sign:
                self._sign, self._seen_s = sign, now_s
            if now_s - self._seen_s < self.lease_s / 2:
                return
            time.sleep(min(0.2, self.lease_s / 20))


def _check(word: str) -> None:
    if word.startswith(_LOST):
        raise LostLeaseError(
            f"this process gave no sign of life for longer than its lease on the run lasts "
            f"(it was stopped, or its host was out of reach), and {word.removeprefix(_LOST)}. It "
            "has written nothing since and ends here; the run goes on there. A longer "
            "tracking.lease_s bears longer stops"
        )
    if word == _ENDED:
        raise LostLeaseError("the process that owns the run has ended; this one ends as well")


def _read(path: Path, number: int) -> Seen | None:
    try:
        # NFS asks the server for a file's state when it is opened.
        with path.open(encoding="utf-8") as file:
            sign, text = os.fstat(file.fileno()).st_mtime_ns, file.read()
    except FileNotFoundError:
        return None
    first, *rest = text.splitlines()
    try:
        return Seen(number=number, owner=Owner.of_text(first), sign=sign, word="".join(rest[:1]))
    except ValueError as error:
        raise UserError(
            f"{path}: {error}; delete it, once nobody works on the run beside it"
        ) from error


def _word(path: Path) -> str:
    """What was appended; empty where nothing was, or where the share is gone for a while."""
    with suppress(OSError):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            gone = path.parent.is_dir()
        else:
            if len(lines) > 1:
                return lines[1]
            # Whoever has linked it could not append here: the disk is full, or it was stopped.
            name, _, number = path.name.rpartition("-")
            gone = path.with_name(f"{name}-{int(number) + 1}").exists()
        if gone:
            return f"{_LOST}another process has taken the run over"
    return ""


def _sign(path: Path) -> int | None:
    with suppress(OSError), path.open("rb") as file:
        return os.fstat(file.fileno()).st_mtime_ns
    return None


def _append(path: Path, word: str) -> None:
    with suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.write(word + "\n")
        file.flush()
        os.fsync(file.fileno())
