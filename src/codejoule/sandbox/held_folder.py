"""Folders that are in use for as long as the process lives that made them, however it ends."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_ATTEMPTS = 10


class HeldFolder:
    """A new folder in `parent`, locked until `release` or the end of this process."""

    def __init__(self, parent: Path, *, prefix: str) -> None:
        """Raises OSError where no folder can be made there."""
        for _ in range(_ATTEMPTS):
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            fd = _lock(self.path)
            if fd is not None:
                self._fd = fd
                return
            # Another process took it for abandoned before it was locked, and removes it.
        raise OSError(f"no folder in {parent} can be locked")

    def release(self) -> None:
        """Give up the lock; the folder itself is the caller's to remove."""
        os.close(self._fd)


def abandoned_folders(parent: Path, *, prefix: str) -> Iterator[Path]:
    """The folders of this user in `parent` that nobody holds, each locked while it is looked
    at: they are left from processes that were killed."""
    for path in parent.glob(f"{prefix}*"):
        fd = _lock(path)
        if fd is None:
            continue
        try:
            if os.fstat(fd).st_uid == os.geteuid():
                yield path
        finally:
            os.close(fd)


def _lock(path: Path) -> int | None:
    """A descriptor that holds the folder; None where someone else does, or it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), path.stat()):
            return fd
    os.close(fd)
    return None
