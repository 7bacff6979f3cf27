"""This installation: its folders, and the versions of its libraries."""

import os
import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path


def project_root() -> Path:
    """Folder that holds ``conf/`` and ``src/``; stores and journals go below it by default."""
    return Path(__file__).resolve().parents[3]


def conf_folders() -> list[Path]:
    """The folders whose files are choices: codejoule's own ``conf``, and the user's."""
    own = own_conf()
    return [project_root() / "conf", *([] if own is None else [own])]


def own_conf() -> Path | None:
    """The folder ``conf`` of the working directory, whose choices are added to codejoule's; None
    where there is none, or where it is codejoule's."""
    folder = Path.cwd() / "conf"
    same = folder.resolve() == (project_root() / "conf").resolve()
    return folder if folder.is_dir() and not same else None


def user_cache() -> Path:
    """Folder for what can be made again, shared by all of the user's projects."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "codejoule"


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Version of each distribution that is installed, as it calls itself; others are absent."""
    found = {}
    for name in names:
        try:
            found[name] = (_torch_build() if name == "torch" else None) or version(name)
        except PackageNotFoundError:
            continue
    return found


def _torch_build() -> str | None:
    """``torch.__version__``: the package index names its build for CUDA 13 plain ``2.13.0``, which
    calls itself ``2.13.0+cu130``."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    named = re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE)
    return named.group(1) if named else None
