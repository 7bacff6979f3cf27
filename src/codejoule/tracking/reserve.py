"""Room in a store's folder for saying how a run ended, though the disk is full."""

import os
from contextlib import suppress
from pathlib import Path

from codejoule.config import UserError, write_whole

_FILE = ".reserve"
_BYTES = 2**16
"""More than SQLite takes to change one row."""


def keep_reserve(folder: Path) -> None:
    """Take the room, unless it is taken or not there."""
    if not (folder / _FILE).exists():
        with suppress(UserError):
            # Random, since some file systems store zeros in no room at all.
            write_whole(folder / _FILE, os.urandom(_BYTES))


def give_reserve(uri: str) -> bool:
    """Give the room back, once; whether there was any in the store at `uri`."""
    reserve = Path(uri.removeprefix("sqlite:///")).with_name(_FILE)
    if not uri.startswith("sqlite:///") or not reserve.exists():
        return False
    reserve.unlink()
    return True
