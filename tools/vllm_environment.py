"""``make vllm-env``: build the environment that ``engine=vllm`` runs vLLM in.

``python -m tools.vllm_environment``. It is the one for this machine: with CUDA where an NVIDIA
driver answers, else for the CPU. What is built is kept until its lock changes; nothing of it
touches the environment that runs codejoule.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from codejoule.config import UserError, write_whole
from codejoule.generation.vllm.environment import MARKER, environment_folder, lock_of
from codejoule.measurement import detect_hardware


def main() -> None:
    """Build it unless it is there."""
    kind = "cuda" if detect_hardware().gpus else "cpu"
    folder = environment_folder(kind)
    if (folder / MARKER).is_file():
        print(f"vLLM for {kind}: {folder} is there already")
        return
    print(f"vLLM for {kind}: building {folder} (3 to 9 GB, 5 to 15 minutes) ...", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _build(kind, folder)
    except subprocess.CalledProcessError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UserError(
            f"vLLM's environment cannot be built: {' '.join(error.cmd[:5])} ... ended with status "
            f"{error.returncode}; what went wrong stands above"
        ) from error
    print(f"vLLM for {kind}: built")


def _build(kind: str, folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    inside = str(folder / "bin" / "python")
    pip = [inside, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    # PyTorch with what it needs, whichever build of it the index has; the rest as it is locked.
    torch = next(line for line in lock_of(kind).read_text().split() if line.startswith("torch=="))
    subprocess.run([*pip, torch], check=True)
    subprocess.run([*pip, "--no-deps", "--requirement", str(lock_of(kind))], check=True)
    subprocess.run([inside, "-c", "import vllm"], check=True, stdout=subprocess.DEVNULL)
    write_whole(folder / MARKER, json.dumps({"lock": lock_of(kind).name}) + "\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"make vllm-env: {error}")
