"""``codejoule env vllm``: build the environment that ``engine=vllm`` runs vLLM in.

It is the one for this machine: with CUDA where an NVIDIA
driver answers, else for the CPU. What is built is kept until its lock changes; nothing of it
touches the environment that runs codejoule. vLLM's package for the CPU is made for PyTorch's own
CPU build: where the package index has another one, pip finds it in PyTorch's index
(``PIP_EXTRA_INDEX_URL``).
"""

import sys
from typing import Any

from codejoule.common.environments import Installer
from codejoule.generation.vllm.environment import environment_of
from codejoule.measurement import detect_hardware

_CHECK = """\
import sys
import vllm
from vllm.platforms import current_platform
sys.exit(current_platform.device_type != sys.argv[1])
"""


def build() -> None:
    """Build it unless it is there."""
    kind = "cuda" if detect_hardware().gpus else "cpu"
    environment = environment_of(kind)
    if environment.complete:
        print(f"vLLM for {kind}: {environment.folder} is there already")
        return
    print(f"vLLM for {kind}: building {environment.folder} (some GB, minutes) ...", flush=True)
    environment.build(sys.executable, lambda installer: _fill(installer, kind))
    print(f"vLLM for {kind}: built")


def _fill(installer: Installer, kind: str) -> dict[str, Any]:
    torch = next(line for line in installer.lock.read_text().split() if line.startswith("torch=="))
    # Which of NVIDIA's libraries it needs is known to the build that the index has.
    installer.pip("install", torch)
    installer.install_locked()
    installer.run(installer.python, "-c", _CHECK, kind)
    return {}
