"""The evaluation environment of ``codejoule env bigcodebench``, and which tasks need it."""

import dataclasses
import importlib.util
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from codejoule.common.environments import LockedEnvironment
from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import Task, imported_modules

_LOGGER = logging.getLogger(__name__)

VERSIONS = ("3.11", "3.10")
"""Versions of Python for which there is a lock, the default first."""

_MOST_NAMES = 8


def environment_of(version: str) -> LockedEnvironment:
    """The environment for Python `version`, built or not."""
    lock = Path(__file__).parent / "locks" / f"py{version.replace('.', '')}.txt"
    return LockedEnvironment(lock=lock, kind=".eval-env")


def find_environment() -> str | None:
    """The Python of the first environment that is built, None where there is none."""
    found = (environment_of(version) for version in VERSIONS)
    return next((environment.python for environment in found if environment.complete), None)


def environment_name(python: str) -> str:
    """Name of the interpreter in a record: the name of our own environment, which is the same
    wherever the project lies, else its path."""
    folder, ours = Path(python).parent.parent, environment_of(VERSIONS[0]).folder
    return folder.name if folder.parent == ours.parent else python


def with_python(
    config: EvaluatorConfig, tasks: Sequence[Task], *, judges: bool = True
) -> EvaluatorConfig:
    """`config` with its interpreter settled: the one it names; else, where the tasks use more
    than the standard library, that of the built environment; else the running one. Warns of
    modules that the running one lacks, if this machine `judges`."""
    if config.python is not None:
        return config
    sources = {text for t in tasks for text in (t.code_prompt, t.test, t.plus_test)}
    imported = {name.partition(".")[0] for text in sources for name in imported_modules(text)}
    modules = imported - sys.stdlib_module_names
    if not modules:
        return config
    python = find_environment()
    if python is not None:
        return dataclasses.replace(config, python=python)
    missing = [name for name in sorted(modules) if importlib.util.find_spec(name) is None]
    if missing and judges:
        more = len(missing) - _MOST_NAMES
        names = ", ".join(missing[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
        _LOGGER.warning(
            "%s lacks modules that the tasks import (%s), so these tasks will fail: build the "
            "evaluation environment with `codejoule env bigcodebench`, or name another Python "
            "(evaluator.python, --python)",
            sys.executable, names,
        )  # fmt: skip
    return config
