"""The process that holds a job's model, and the one that it is forked from.

That one imports the libraries of all jobs, once. It must neither start a thread, which no fork
would have, nor use CUDA, which no fork of it could then use. Where a library does that while it is
imported, the process begins anew without it, says so, and each job imports it by itself. gptqmodel
starts threads, and is always left to the jobs.
"""

import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from codejoule.common.forking import begin_anew, leave, serve, threads
from codejoule.common.progress import OWN, Pipe, told_to
from codejoule.config import UserError, write_whole
from codejoule.config.explain import explain
from codejoule.config.typed import from_plain
from codejoule.experiment import stopping
from codejoule.experiment.generation_stage import generate
from codejoule.experiment.model_stage import Kept
from codejoule.experiment.plan import make_plan
from codejoule.models import compat, import_libraries
from codejoule.tracking import Fence, guarded

CONFIG = "config.yaml"
"""File with the job's configuration."""
ERROR = "generation_error.json"
"""File in which a job leaves what it died of."""
ORDER_BYTES = 2**17
"""More than an order takes."""
FILES = 2
"""Files that come with an order: for what is written, and for what is told of progress."""

WHILE_IMPORTING = {
    # OpenBLAS starts its threads when NumPy is imported. Here it multiplies nothing of any size.
    "OPENBLAS_NUM_THREADS": "1",
    # One of pyarrow's allocators starts a thread when it is imported, by pandas for one.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""Variables of the environment that the server alone has."""

_CUDA = "/dev/nvidia-uvm"


_LIBRARIES: Mapping[str, Callable[[], object]] = {
    # torch first: what others ask it of GPUs while they are imported is answered by a fork.
    "torch": partial(import_module, "torch"),
    "transformers": import_libraries,
    "torch's compiler": partial(import_module, "torch._inductor.compile_fx"),
    "datasets": partial(import_module, "datasets"),
}


def _prepare(left_out: Sequence[str], channel: int) -> None:
    with ExitStack() as stack:
        for name, load in _LIBRARIES.items():
            if name in left_out:
                continue
            with suppress(ImportError):  # the job that needs it says so
                load()
            if name == "torch":
                stack.enter_context(compat.cuda_asked_in_forks())
            if problems := _problems():
                why = " and ".join(problems)
                print(f"importing {name} {why}: each job imports it anew", file=sys.stderr)
                rest = [*left_out, name, str(channel)]
                program = [sys.executable, "-P", "-m", "codejoule.experiment.job_process"]
                begin_anew([*program, *rest])


def _problems() -> list[str]:
    """What libraries have done that no fork would bear."""
    problems = []
    if len(found := threads()) > 1:
        problems.append(f"started threads ({', '.join(found[1:])})")
    files = Path("/proc/self/fd").iterdir()
    asked = any(os.path.realpath(file).startswith(_CUDA) for file in files)
    torch = sys.modules.get("torch")
    if asked or (torch is not None and torch.cuda.is_initialized()):
        problems.append("used CUDA")
    return problems


def _work(order: Mapping[str, Any], files: Sequence[int], channel: socket.socket | None) -> int:
    """The fork's main: one job, or, with a `channel`, those that come through it as well, with what
    the first has loaded. The exit code is that of the last."""
    kept = None if channel is None else Kept()
    while True:
        code = _told(order, files, kept)
        if kept is None or channel is None or code != 0:
            return code
        # Whoever reads it learns so that the job has ended.
        _write_to(os.open(os.devnull, os.O_WRONLY))
        channel.send(b"done")
        text, files, _, _ = socket.recv_fds(channel, ORDER_BYTES, FILES)
        if not text:
            # Whoever waits for the end of this process wants the GPU.
            kept.close()
            return 0
        order = json.loads(text)


def _told(order: Mapping[str, Any], files: Sequence[int], kept: Kept | None) -> int:
    """Run it. What it and its libraries write goes to the first of the files, what codejoule says
    of it to the second."""
    output, progress = files
    os.set_inheritable(progress, False)  # a process that it starts shall not keep it open
    _write_to(output)
    pipe, logger = Pipe(progress), logging.getLogger(OWN)
    logger.setLevel(logging.INFO)
    logger.addHandler(pipe)
    try:
        with told_to(pipe):
            return _run(order, kept)
    finally:
        logger.removeHandler(pipe)
        pipe.close()
        os.close(progress)


def _write_to(file: int) -> None:
    for number in (1, 2):
        os.dup2(file, number)
    os.close(file)


def _run(order: Mapping[str, Any], kept: Kept | None) -> int:
    """Generate, or leave the error's text behind."""
    os.chdir(order["directory"])
    folder = Path(order["folder"])
    plain = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    try:
        experiment = from_plain(plain)
        fence = Fence(Path(order["lease"]), experiment.tracking.lease_s)
        plan = make_plan(experiment)
        if plan.fingerprint != order["fingerprint"]:
            raise UserError(
                "tasks or weights changed on disk while the job was starting; run it again"
            )
        gpus = [plan.hardware.gpus[number].uuid for number in plan.gpus]
        if gpus != order["gpus"]:
            raise UserError(
                f"the job was given {' and '.join(order['gpus'])}, and its process sees "
                f"{' and '.join(gpus) or 'no GPU'}: the energy of another GPU would be measured; "
                "name the GPUs by their UUIDs in CUDA_VISIBLE_DEVICES (nvidia-smi -L)"
            )
        with guarded(folder, fence.check):
            generate(plan, folder, kept)
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
    except KeyboardInterrupt:  # the parent was asked to stop, and says so
        return stopping.EXIT_CODE
    return 0


def _main() -> int:
    *left_out, channel = sys.argv[1:]
    found = serve(socket.socket(fileno=int(channel)), partial(_prepare, left_out, int(channel)))
    if found is None:
        return 0
    stopping.obey_orders()
    files, shared = found.files[:FILES], found.files[FILES:]
    return _work(found.order, files, socket.socket(fileno=shared[0]) if shared else None)


if __name__ == "__main__":
    leave(_main())
