"""Where the project's own folders are."""

import os
from pathlib import Path


def project_root() -> Path:
    """Folder that holds ``conf/`` and ``src/``; stores and journals go below it by default."""
    return Path(__file__).resolve().parents[3]


def user_cache() -> Path:
    """Folder for what can be made again, shared by all of the user's projects."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "codejoule"
