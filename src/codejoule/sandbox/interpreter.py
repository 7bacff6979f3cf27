"""The Python that judges the samples: where it is and what it is made of."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from codejoule.config import ConfigError

_QUESTION = (
    "import importlib.metadata, json, sys, sysconfig; print(json.dumps({"
    "'executable': sys.executable, 'version': sys.version_info[:3],"
    "'prefixes': [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix],"
    "'needed': [sysconfig.get_path(n) for n in ('stdlib', 'platstdlib', 'purelib')],"
    # A distribution's metadata is parsed anew with each access.
    "'packages': {m['Name'] or '': m['Version'] for m in"
    " (d.metadata for d in importlib.metadata.distributions())}"
    "}))"
)
_OLDEST = (3, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """An interpreter as it describes itself."""

    executable: str
    """Path under which it is started."""
    version: tuple[int, int, int]
    prefixes: tuple[str, ...]
    """Installation directories, those of its virtual environment first."""
    needed: tuple[str, ...]
    """Directories of modules, which the samples' user must be able to read."""
    packages: Mapping[str, str]
    """Installed distributions, with their versions."""


@cache
def describe_interpreter(python: str | None) -> Interpreter:
    """Ask `python` (None: the running one) about itself. Raises ConfigError where it is
    missing, does not answer or is older than 3.10."""
    path = python or sys.executable
    try:
        answer = subprocess.run(
            [path, "-s", "-c", _QUESTION], capture_output=True, text=True, timeout=120, check=True,
            env={"PATH": os.environ.get("PATH", os.defpath)},
        )  # fmt: skip
        facts = json.loads(answer.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        words = getattr(error, "stderr", None) or str(error)
        raise ConfigError(
            f"evaluator.python={path}: not a working Python interpreter ({words.strip()}); give "
            "the path of one, or null for the interpreter that runs codejoule"
        ) from error
    version = tuple(facts["version"])
    if version < _OLDEST:
        raise ConfigError(
            f"evaluator.python={path}: Python {'.'.join(map(str, version))}; "
            "the sandbox needs 3.10 or later"
        )
    return Interpreter(
        executable=facts["executable"],
        version=version,
        prefixes=tuple(dict.fromkeys(facts["prefixes"] + _prefixes_of_links(facts["executable"]))),
        needed=tuple(path for path in dict.fromkeys(facts["needed"]) if Path(path).exists()),
        packages=facts["packages"],
    )


def _prefixes_of_links(executable: str) -> list[str]:
    """Installations on the way from a virtual environment's ``bin/python`` to the real one:
    each link on the way must exist inside the sandbox too."""
    found = [str(Path(executable).resolve().parent.parent)]
    hop = Path(executable)
    for _ in range(40):
        if not hop.is_symlink():
            break
        hop = Path(os.path.normpath(hop.parent / hop.readlink()))
        found.append(str(hop.parent.parent))
    return found
