"""A folder for samples that run without a sandbox of their own."""

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_PREFIX = "codejoule-samples-"
_NEW_S = 10.0
"""One that was made so recently may not be locked yet."""


class SamplesFolder:
    """A temporary folder that its process holds locked: one that was killed leaves it unlocked, and
    the next to make one deletes it."""

    def __init__(self) -> None:
        place = Path(tempfile.gettempdir()).resolve()
        _delete_left(place)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def delete(self) -> None:
        """Delete it with what samples have left in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _delete_left(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        # Another user's, or gone meanwhile.
        with suppress(OSError):
            if time.time() - folder.lstat().st_ctime < _NEW_S:
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
