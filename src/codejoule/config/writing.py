"""Files that are written whole or not at all, and what to tell where a disk takes no more."""

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from codejoule.config.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT)
# What SQLite says, and libraries (and servers) that put an error into words of their own.
_SAYING_FULL = ("disk is full", os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, and the folders above it, so that it has all of `content` or is as before. Text
    is written in UTF-8. A power cut leaves no half of it either. Raises `UserError` where the file
    cannot be written."""
    with writing_whole(path) as file:
        file.write(content if isinstance(content, bytes) else content.encode("utf-8"))


@contextmanager
def writing_whole(path: Path) -> Iterator[IO[bytes]]:
    """The same for content that is written in pieces, inside: the file has all of it, or is as
    before where that fails."""
    half = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with half.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            half.replace(path)
        except BaseException:
            half.unlink(missing_ok=True)
            raise
    except OSError as error:
        why = full_disk(error, path) or f"{error.strerror}; make it writable or choose another"
        raise UserError(f"{path}: cannot be written: {why}") from error


def full_disk(error: BaseException, *places: Path) -> str | None:
    """What to tell where `error` says that a disk (or a quota) is full; None where it does not.
    `places` are those that may have been written to: that with the least room is told."""
    number = error.errno if isinstance(error, OSError) else None
    if number not in _FULL and not any(words in str(error) for words in _SAYING_FULL):
        return None
    folders = map(nearest_folder, places or (Path.cwd(), Path(tempfile.gettempdir())))
    free_bytes, folder = min((shutil.disk_usage(folder).free, folder) for folder in folders)
    what = "the quota is used up" if number == errno.EDQUOT else "the disk is full"
    return (
        f"{what} ({free_bytes / 2**20:.1f} MiB are free in {folder}); free some space and start "
        "the same command again"
    )


def nearest_folder(place: Path) -> Path:
    """`place`, or the nearest folder above it that is there."""
    return next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())


def require_room(folder: Path, needed_bytes: int, *, what: str, remedy: str) -> None:
    """Make `folder`, and refuse a disk that cannot hold what it is for; `UserError`."""
    folder.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise UserError(
            f"{what} {needed_bytes / 2**30:.1f} GiB, but {folder} has "
            f"{free_bytes / 2**30:.1f} GiB free; {remedy}"
        )
