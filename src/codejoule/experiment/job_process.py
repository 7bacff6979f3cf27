"""The process that holds a job's model, and the one that it is forked from.

That one imports the libraries of all jobs, once. It must neither start a thread, which no fork
would have, nor use CUDA, which no fork of it could then use. Where a library does that while it is
imported, the process begins anew without it, says so, and each job imports it by itself. gptqmodel
starts threads, and is always left to the jobs.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from codejoule.common.forking import leave, serve, threads
from codejoule.config import UserError, write_whole
from codejoule.config.explain import explain
from codejoule.config.typed import from_plain
from codejoule.experiment.generation_stage import generate
from codejoule.experiment.plan import make_plan
from codejoule.models import compat, import_libraries

CONFIG = "config.yaml"
"""File with the job's configuration."""
ERROR = "generation_error.json"
"""File in which a job leaves what it died of."""

WHILE_IMPORTING = {
    # PyTorch asks NVML whether there is a GPU, and not CUDA.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    # OpenBLAS starts its threads when NumPy is imported. Here it multiplies nothing of any size.
    "OPENBLAS_NUM_THREADS": "1",
}
"""Variables of the environment that the server alone has."""

_CUDA = "/dev/nvidia-uvm"


def _import_torch() -> None:
    import torch

    assert torch.__version__


def _import_transformers() -> None:
    with compat.capability_by_nvml():
        import_libraries()


_LIBRARIES: Mapping[str, Callable[[], None]] = {
    "torch": _import_torch,
    "transformers": _import_transformers,
}


def _prepare(left_out: Sequence[str], channel: int) -> None:
    for name, load in _LIBRARIES.items():
        if name in left_out:
            continue
        load()
        problem = _problem()
        if problem is not None:
            print(f"importing {name} {problem}: each job imports it anew", file=sys.stderr)
            again = ["-P", "-m", "codejoule.experiment.job_process", *left_out, name, str(channel)]
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # `serve` ignores it
            os.execv(sys.executable, [sys.executable, *again])


def _problem() -> str | None:
    """What a library has done that no fork would bear; None for nothing."""
    if len(found := threads()) > 1:
        return f"started threads ({', '.join(found[1:])})"
    files = Path("/proc/self/fd").iterdir()
    asked = any(os.path.realpath(file).startswith(_CUDA) for file in files)
    return "used CUDA" if asked or sys.modules["torch"].cuda.is_initialized() else None


def _run(order: Mapping[str, Any], stderr: int) -> int:
    """The fork's main: generate, or leave the error's text behind."""
    os.dup2(stderr, sys.stderr.fileno())
    os.close(stderr)
    os.chdir(order["directory"])
    folder = Path(order["folder"])
    plain = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    try:
        plan = make_plan(from_plain(plain))
        if plan.fingerprint != order["fingerprint"]:
            raise UserError(
                "tasks or weights changed on disk while the job was starting; run it again"
            )
        generate(plan, folder)
    except Exception as error:
        message = explain(error, ())
        if message is None:
            sys.excepthook(*sys.exc_info())
            return 1
        try:
            write_whole(folder / ERROR, json.dumps({"message": message}))
        except UserError:  # the disk is full: the parent quotes what is said here
            print(message, file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # the parent was interrupted too, and says so
        return 130
    return 0


def _main() -> int:
    *left_out, channel = sys.argv[1:]
    found = serve(socket.socket(fileno=int(channel)), partial(_prepare, left_out, int(channel)))
    return 0 if found is None else _run(found.order, *found.files)


if __name__ == "__main__":
    leave(_main())
