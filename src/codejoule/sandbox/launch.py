"""Start the sandbox's worker process, with bubblewrap or with system calls of our own."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, Any

from codejoule.config import UserError
from codejoule.config.schema import EvaluatorIsolation
from codejoule.sandbox._inside.kernel import SANDBOX_ID
from codejoule.sandbox.interpreter import Interpreter
from codejoule.sandbox.layout import (
    HOME,
    PRIVATE,
    Step,
    data_paths,
    devices,
    exposed_paths,
    font_caches,
    plan_root,
    readable_paths,
)


class Launcher(Enum):
    """Who builds the sandbox around the worker."""

    bubblewrap = "bubblewrap"
    namespaces = "namespaces"
    process = "process"
    """Nobody: an explicit choice (``evaluator.isolation=process``), never a fallback."""


_OF_GUARDS = (
    "frames", "forks", "kernel", "landlock", "seccomp", "rootfs", "processes", "trial",
    "process_guards", "init", "supervisor", "worker",
)  # fmt: skip
_OF_TASKS = ("snapshot", "honest_reading", "audit", "verdict_channel", "outcomes", "task", "zygote")
_MODULES = _OF_GUARDS + _OF_TASKS
"""The code that is shipped inside, each module after those it imports."""

_BOOT = """\
import builtins, functools, json, sys, types
sys.path[:] = [entry for entry in sys.path if entry]
with open({bundle}, "rb") as stream:
    bundle = json.load(stream)
package = types.ModuleType("codejoule_inside")
package.__path__ = []
sys.modules["codejoule_inside"] = package
def load(package, modules):
    for name, source in modules:
        module = types.ModuleType("codejoule_inside." + name)
        module.__package__ = "codejoule_inside"
        # Its own copy: whoever replaces a builtin changes nothing in there.
        module.__builtins__ = dict(vars(builtins))
        sys.modules[module.__name__] = module
        exec(compile(source, "codejoule_inside/" + name + ".py", "exec"), module.__dict__)
        setattr(package, name, module)
load(package, bundle["guards"])
main, settings = package.worker.main, bundle["settings"]
load_tasks = functools.partial(load, package, bundle["tasks"])
del package, bundle, stream
main(settings, load_tasks, {socket})
"""


def find_bubblewrap() -> str | None:
    """Path of bubblewrap's program, None where it is not installed."""
    return shutil.which("bwrap")


def choose_launcher(
    wanted: Launcher | None, isolation: EvaluatorIsolation = EvaluatorIsolation.sandbox
) -> Launcher:
    """`wanted`, or bubblewrap where it is installed; `Launcher.process` if and only if that is
    the isolation. Raises UserError for a bubblewrap that is wanted and missing."""
    if isolation is EvaluatorIsolation.process:
        if wanted not in (None, Launcher.process):
            raise UserError(
                f"evaluator.isolation=process builds no sandbox, so {wanted.value} cannot build "
                "it; leave one of the two out"
            )
        return Launcher.process
    if wanted is Launcher.process:
        raise UserError(
            "without a sandbox samples run only if that is spelled out: "
            "evaluator.isolation=process (see docs/sandbox.md)"
        )
    if wanted is Launcher.bubblewrap and find_bubblewrap() is None:
        raise UserError(
            "bubblewrap is not installed: install it with your package manager "
            "(for example `apt-get install bubblewrap`), or leave the choice to codejoule"
        )
    if wanted is not None:
        return wanted
    return Launcher.bubblewrap if find_bubblewrap() else Launcher.namespaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A worker process that has been started and not yet greeted us."""

    process: subprocess.Popen[bytes]
    """The process to wait for; the worker itself may be a child of it."""
    sock: socket.socket
    """Our end of its socket."""
    words: IO[bytes]
    """What it writes to its standard error."""


def environment_for(interpreter: Interpreter) -> dict[str, str]:
    """All variables that a sample sees, besides HOME: none of ours among them."""
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
    interpreter: Interpreter, launcher: Launcher, *, preimport: Sequence[str], words: IO[bytes],
    folder: Path | None = None, cgroup: int | None = None,
) -> Launched:  # fmt: skip
    """Start a worker; its standard error goes to the file `words`. The caller reads its
    greeting, or its reason for failing, from the socket. `folder` is where samples live under
    `Launcher.process`, `cgroup` the open ``cgroup.procs`` of a group to count its CPU time."""
    steps = plan_root(interpreter)
    environment = environment_for(interpreter)
    settings = {
        "launcher": launcher.value,
        "steps": steps,
        "private": list(PRIVATE),
        "exposed": exposed_paths(steps),
        "environment": environment,
        "must_read": list(interpreter.needed),
        "preimport": list(preimport),
        "home": HOME if folder is None else f"{folder}/sample/home",
        "font_caches": font_caches(interpreter),
        "readable": readable_paths(steps),
        "devices": devices(),
        "cgroup": cgroup,
    }
    ours, theirs = socket.socketpair()
    handed_on = [theirs.fileno(), _in_memory(_bundle(settings))]
    shared = [] if cgroup is None else [cgroup]
    boot = _BOOT.format(socket=handed_on[0], bundle=handed_on[1])
    command = [interpreter.executable, "-s", "-c", boot]
    if launcher is Launcher.bubblewrap:
        options = _bubblewrap_options(steps, environment, handed_on)
        command = [find_bubblewrap() or "bwrap", *options, "--", *command]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=words,
            pass_fds=[*handed_on, *shared], start_new_session=True, env=environment, cwd="/",
        )  # fmt: skip
    finally:
        for fd in handed_on[1:]:
            os.close(fd)
        theirs.close()
    return Launched(process=process, sock=ours, words=words)


def _bundle(settings: dict[str, Any]) -> bytes:
    bundle = {"guards": _sources(_OF_GUARDS), "tasks": _sources(_OF_TASKS), "settings": settings}
    return json.dumps(bundle).encode("utf-8")


def _sources(names: Sequence[str]) -> list[tuple[str, str]]:
    folder = Path(__file__).parent / "_inside"
    return [(name, (folder / f"{name}.py").read_text(encoding="utf-8")) for name in names]


def _in_memory(content: bytes) -> int:
    """A file that needs no path: our own folder may be closed to the worker's user."""
    fd = os.memfd_create("codejoule")
    while content:
        content = content[os.write(fd, content) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _bubblewrap_options(
    steps: list[Step], environment: dict[str, str], handed_on: list[int]
) -> list[str]:
    """Options for `steps`; file contents are appended to `handed_on` as descriptors."""
    out = ["--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"]
    out += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    # Not --as-pid-1: bubblewrap without its rights may not kill a worker that is nobody, but
    # its own pid 1 dies with it, and everything inside dies with that.
    out += ["--unshare-cgroup-try"]
    if os.geteuid() == 0:
        out += ["--cap-add", "ALL"]
    else:
        out += ["--unshare-user", "--uid", str(SANDBOX_ID), "--gid", str(SANDBOX_ID)]
    for name, value in environment.items():
        out += ["--setenv", name, value]
    for step in steps:
        kind, path = step["kind"], step["path"]
        if kind == "dir":
            out += ["--perms", "0755", "--dir", path]
        elif kind == "symlink":
            out += ["--symlink", step["target"], path]
        elif kind == "file":
            handed_on.append(_in_memory(step["text"].encode("utf-8")))
            out += ["--perms", "0644", "--file", str(handed_on[-1]), path]
        elif kind == "tmpfs":
            out += ["--perms", "1777", "--size", str(step["bytes"]), "--tmpfs", path]
        elif kind == "bind":
            out += ["--ro-bind", step["source"], path]
        elif kind == "device":
            out += ["--dev-bind", path, path]
        elif kind == "proc":
            # Not --proc: what bubblewrap masks in it would forbid each sample its own.
            out += ["--bind", path, path]
        else:
            raise AssertionError(f"unknown step {kind}")
    return [*out, "--remount-ro", "/", "--chdir", "/"]
