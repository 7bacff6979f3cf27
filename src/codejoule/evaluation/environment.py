"""The evaluation environment that ``make eval-env`` builds, and which tasks need it."""

import dataclasses
import hashlib
import importlib.util
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from codejoule.config import project_root
from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import Task, imported_modules

_LOGGER = logging.getLogger(__name__)

VERSIONS = ("3.11", "3.10")
"""Versions of Python for which there is a lock, the default first."""

MARKER = "codejoule.json"
"""File in an environment that is complete: what was put in."""

_MOST_NAMES = 8


def lock_of(version: str) -> Path:
    """The file that pins every package of the environment for Python `version`."""
    return Path(__file__).parent / "locks" / f"py{version.replace('.', '')}.txt"


def environment_folder(version: str) -> Path:
    """Where the environment for Python `version` lies, built or not; its name holds a hash of
    its lock, so that another lock is another environment."""
    lock = lock_of(version)
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    return project_root() / ".eval-env" / f"{lock.stem}-{digest}"


def find_environment() -> Path | None:
    """The Python of the first environment that is built, None where there is none."""
    for version in VERSIONS:
        folder = environment_folder(version)
        if (folder / MARKER).is_file():
            return folder / "bin" / "python"
    return None


def environment_name(python: str) -> str:
    """What to call the interpreter in a record: the name of our own environment, which says
    all and is the same wherever the project lies, else its path."""
    folder = Path(python).parent.parent
    return folder.name if folder.parent == project_root() / ".eval-env" else python


def with_python(config: EvaluatorConfig, tasks: Sequence[Task]) -> EvaluatorConfig:
    """`config` with its interpreter settled: the one it names; else, where the tasks use more
    than the standard library, that of the built environment; else the running one. Warns of
    modules that the running one lacks."""
    if config.python is not None:
        return config
    sources = {text for t in tasks for text in (t.code_prompt, t.test, t.plus_test)}
    imported = {name.partition(".")[0] for text in sources for name in imported_modules(text)}
    modules = imported - sys.stdlib_module_names
    if not modules:
        return config
    python = find_environment()
    if python is not None:
        return dataclasses.replace(config, python=str(python))
    missing = [name for name in sorted(modules) if importlib.util.find_spec(name) is None]
    if missing:
        more = len(missing) - _MOST_NAMES
        names = ", ".join(missing[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
        _LOGGER.warning(
            "%s lacks modules that the tasks import (%s), so these tasks will fail: build the "
            "evaluation environment with `make eval-env`, or name another Python "
            "(evaluator.python, --python)",
            sys.executable, names,
        )  # fmt: skip
    return config
