"""This installation: its folders, and the versions of its libraries."""

import os
import re
import shutil
import site
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_HOME = "CODEJOULE_HOME"


def conf_folder() -> Path:
    """Folder of the configuration groups: inside an installed package, at the top of a checkout."""
    inside = _PACKAGE / "conf"
    return inside if inside.is_dir() else _PACKAGE.parents[1] / "conf"


def checkout() -> Path | None:
    """Root of the checkout that this code lies in; None where the package was installed."""
    root = conf_folder().parent
    return None if root == _PACKAGE else root


def home() -> Path:
    """Folder that stores, journals and outputs go below by default: ``CODEJOULE_HOME``, or the
    current folder."""
    return Path(os.environ.get(_HOME) or Path.cwd()).expanduser().absolute()


def settle_home() -> None:
    """Write the folder into its variable as `home` reads it, since Hydra's folders name the
    variable: an empty one, or one that begins with ``~``, would be another folder there."""
    if _HOME in os.environ:
        os.environ[_HOME] = str(home())


def environments() -> Path:
    """Folder that environments of Python are built in: the checkout, or else the user's cache."""
    return checkout() or user_cache()


def default_store() -> str:
    """Address of the tracking store that is used where none is named."""
    return f"sqlite:///{home()}/mlruns/mlflow.db"


def program() -> str:
    """How a shell calls the ``codejoule`` of this environment: by its name, or by its path where
    the environment is not activated."""
    found = shutil.which("codejoule")
    beside = Path(sys.executable).with_name("codejoule")
    if found is not None or not beside.exists():
        return "codejoule"
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)


def python_path() -> dict[str, str]:
    """The variable with which a child process imports codejoule from where this one has it; empty
    where the package is installed beside its libraries, which a child finds by itself."""
    source = str(_PACKAGE.parent)
    if source in map(os.path.realpath, [*site.getsitepackages(), site.getusersitepackages()]):
        return {}
    path = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [source, path]))}


def conf_folders() -> list[Path]:
    """The folders whose files are choices: codejoule's own ``conf``, and the user's."""
    own = own_conf()
    return [conf_folder(), *([] if own is None else [own])]


def own_conf() -> Path | None:
    """The folder ``conf`` of the working directory, whose choices are added to codejoule's; None
    where there is none, or where it is codejoule's."""
    folder = Path.cwd() / "conf"
    same = folder.resolve() == conf_folder().resolve()
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
            found[name] = _version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def _version(name: str) -> str:
    # Metadata is parsed anew with each access: a sixth of what planning a job takes.
    return (_torch_build() if name == "torch" else None) or version(name)


def _torch_build() -> str | None:
    """``torch.__version__``: the package index names its build for CUDA 13 plain ``2.13.0``, which
    calls itself ``2.13.0+cu130``."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    named = re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE)
    return named.group(1) if named else None
