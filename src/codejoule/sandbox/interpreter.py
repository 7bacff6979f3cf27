"""The Python that judges the samples: where it is and what it is made of."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from codejoule.config import ConfigError

_QUESTION = (
    "import json, sys, sysconfig; print(json.dumps({"
    "'executable': sys.executable, 'version': sys.version_info[:3],"
    "'prefixes': [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix],"
    "'needed': [sysconfig.get_path(n) for n in ('stdlib', 'platstdlib', 'purelib')]}))"
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


@cache
def describe_interpreter(python: str | None) -> Interpreter:
    """Ask `python` (None: the running one) about itself. Raises ConfigError where it is
    missing, does not answer or is older than 3.10."""
    path = python or sys.executable
    fix = "give the path of one, or null for the interpreter that runs codejoule"
    facts = ask_python(path, _QUESTION, problem="not a working Python interpreter", fix=fix)
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
    )


def ask_python(python: str, question: str, *, problem: str, fix: str) -> Any:
    """What the code `question` prints there as JSON. Raises ConfigError, with `problem` and
    `fix`, where there is no answer."""
    try:
        answer = subprocess.run(
            [python, "-s", "-c", question],
            capture_output=True, text=True, timeout=120, check=True,
            env={"PATH": os.environ.get("PATH", os.defpath)},
        )  # fmt: skip
        return json.loads(answer.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        words = getattr(error, "stderr", None) or str(error)
        raise ConfigError(
            f"evaluator.python={python}: {problem} ({words.strip()}); {fix}"
        ) from error


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
