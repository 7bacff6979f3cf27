"""Start the sandbox's worker process."""

import json
import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from codejoule.sandbox.interpreter import Interpreter
from codejoule.sandbox.layout import (
    DEVICES,
    HOME,
    PRIVATE,
    data_paths,
    exposed_paths,
    font_caches,
    plan_root,
    readable_paths,
)

_MODULES = (
    "messages", "kernel", "seccomp", "filesystem", "processes", "process_guards", "snapshot",
    "audit", "outcomes", "task_setup", "init", "task", "worker",
)  # fmt: skip
"""The code that is shipped inside, each module after those it imports."""

_BOOT = """\
import builtins, json, sys, types
sys.path[:] = [entry for entry in sys.path if entry]
with open({bundle}, "rb") as stream:
    bundle = json.load(stream)
package = types.ModuleType("codejoule_inside")
package.__path__ = []
sys.modules["codejoule_inside"] = package
for name, source in bundle["modules"]:
    module = types.ModuleType("codejoule_inside." + name)
    module.__package__ = "codejoule_inside"
    # Its own copy: whoever replaces a builtin changes nothing in there.
    module.__builtins__ = dict(vars(builtins))
    sys.modules[module.__name__] = module
    exec(compile(source, "codejoule_inside/" + name + ".py", "exec"), module.__dict__)
    setattr(package, name, module)
main, settings = package.worker.main, bundle["settings"]
del package, bundle, stream, module, name, source
main(settings, {socket})
"""


def environment_for(interpreter: Interpreter) -> dict[str, str]:
    """All variables that a program sees, besides HOME: none of ours among them."""
    folder = os.path.dirname(interpreter.executable)  # noqa: PTH120 (a path inside)
    data = {"NLTK_DATA": os.pathsep.join(data_paths())} if data_paths() else {}
    return {
        **data,
        "PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        # As upstream has them: the first keeps TensorFlow's sums in a fixed order.
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONDONTWRITEBYTECODE": "1",
        # Sets of strings would be ordered differently in each worker, and verdicts with them.
        "PYTHONHASHSEED": "0",
    }


def launch(
    interpreter: Interpreter, *, preimport: Sequence[str], words: IO[bytes], folder: str | None
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a worker: the process to wait for (the worker itself may be a child of it), and our
    end of its socket, on which it greets us or says why it cannot. Its standard error goes to
    `words`. `folder` is where programs live without namespaces."""
    steps = plan_root(interpreter)
    environment = environment_for(interpreter)
    settings = {
        "namespaces": folder is None,
        "steps": steps,
        "private": PRIVATE,
        "exposed": exposed_paths(steps),
        "environment": environment,
        "must_read": interpreter.needed,
        "preimport": list(preimport),
        "home": HOME if folder is None else f"{folder}/sample/home",
        "font_caches": font_caches(interpreter),
        "readable": readable_paths(steps),
        "devices": DEVICES,
    }
    ours, theirs = socket.socketpair()
    bundle = _in_memory(settings)
    boot = _BOOT.format(socket=theirs.fileno(), bundle=bundle)
    try:
        process = subprocess.Popen(
            [interpreter.executable, "-s", "-c", boot],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=words,
            pass_fds=[theirs.fileno(), bundle], start_new_session=True, env=environment, cwd="/",
        )  # fmt: skip
    finally:
        os.close(bundle)
        theirs.close()
    return process, ours


def _in_memory(settings: dict[str, Any]) -> int:
    """A file of the code and its settings that needs no path: our own folder may be closed to
    the worker's user."""
    folder = Path(__file__).parent / "_inside"
    sources = [(name, (folder / f"{name}.py").read_text(encoding="utf-8")) for name in _MODULES]
    fd = os.memfd_create("codejoule")
    with os.fdopen(fd, "w", encoding="utf-8", closefd=False) as file:
        json.dump({"modules": sources, "settings": settings}, file)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
