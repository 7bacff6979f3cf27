"""The process that has imported what is slow to import, and that every task is forked from.

It never sees a program or a test. Inits are not forked from it: each copy of
its memory map costs milliseconds. A task is, and then enters the namespaces of its program.
"""

import functools
import importlib
import os
import shutil
import socket
import sys
import types
from pathlib import Path
from typing import Any, NoReturn

from . import kernel, seccomp, task
from .forks import Become
from .frames import encode_frame, receive_frame
from .init import NAMESPACES_OF_A_TASK, Ends
from .outcomes import Outcomes
from .process_guards import ProcessGuards
from .snapshot import Snapshot, freeze
from .verdict_channel import VerdictChannel

_FORKABLE_THREADS = frozenset({"jemalloc_bg_thd"})
"""Threads of libraries that look after themselves when the process forks: jemalloc's."""


def prepare(
    settings: dict[str, Any], guards: ProcessGuards | None, *, by_user_namespace: bool
) -> tuple[dict[str, Any], task.Outfit | None]:
    """What to tell the host, and what every task begins with: None where it is bad news."""
    home = Path(settings["home"])
    try:
        _seed_home(home, settings["font_caches"])
    except OSError as error:
        return {"error": str(error)}, None
    imported = []
    for name in settings["preimport"]:
        try:
            importlib.import_module(name)
        except Exception:
            # Left for the programs to find out.
            continue
        imported.append(name)
        if _has_started_threads():
            # A fork would lack them.
            return {"start_without": name}, None
    outfit = task.Outfit(
        guards=guards,
        by_user_namespace=by_user_namespace,
        environment=settings["environment"],
        home=settings["home"],
        files=_files_in(home),
        seccomp_program=seccomp.build_program(),
        snapshot=Snapshot(Outcomes),
    )
    # Anyone could otherwise reach this program's modules through sys.modules.
    for name in [name for name in sys.modules if name.startswith("codejoule_inside")]:
        del sys.modules[name]
    sys.modules["__main__"] = types.ModuleType("__main__")
    freeze()
    return {"preimported": imported}, outfit


def run(settings: dict[str, Any], line: socket.socket, *, by_user_namespace: bool) -> NoReturn:
    """Greet on `line`, then fork a task for each program, whose socket comes through it, and
    say there what became of it."""
    kernel.die_with_parent()
    greeting, outfit = prepare(settings, None, by_user_namespace=by_user_namespace)
    line.sendall(encode_frame(greeting))
    while outfit is not None:
        _, fds, _, _ = socket.recv_fds(line, 1, 1)
        if not fds:
            break
        line.sendall(encode_frame(_serve(outfit, socket.socket(fileno=fds[0]))))
    os._exit(0)


def _serve(outfit: task.Outfit, init: socket.socket) -> dict[str, Any]:
    """Fork the task that the `init` at the other end asks for, and wait for its end, which
    that sees by our end being closed. Empty if it is gone already."""
    wanted = len(NAMESPACES_OF_A_TASK) + 3
    _, fds, _, _ = socket.recv_fds(init, 1, wanted)
    child = _fork_into(fds[0]) if len(fds) == wanted else None
    if child == 0:
        # Nothing may be closed on the way: no `with` or `finally` around this.
        raise Become(functools.partial(_enter, outfit, init, fds))
    for fd in fds:
        os.close(fd)
    report: dict[str, Any] = {}
    if child is not None:
        _, status, usage = os.wait4(child, 0)
        report = {
            "exit": os.waitstatus_to_exitcode(status),
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "largest_bytes": usage.ru_maxrss * 1024,
        }
    init.close()
    return report


def _fork_into(pid_namespace: int) -> int | None:
    """As `os.fork`, but the child is born there; None where its init has ended."""
    try:
        # Holds for our children alone. Never undone: the next program brings the next one.
        kernel.enter_namespace(pid_namespace, kernel.CLONE_NEWPID)
        return os.fork()
    except OSError:
        return None


def _enter(outfit: task.Outfit, init: socket.socket, fds: list[int]) -> NoReturn:
    """In the new task: join its program, with no rights there, and become it."""
    meta, job = receive_frame(init), receive_frame(init)
    if meta is None or job is None:
        os._exit(1)
    init.close()
    ends = Ends(*fds[-3:])
    try:
        # The first is the pid namespace, which it was born into.
        for kind, fd in list(zip(NAMESPACES_OF_A_TASK.values(), fds, strict=False))[1:]:
            kernel.enter_namespace(fd, kind)
        if outfit.by_user_namespace:
            kernel.enter_user_namespace()
    except OSError as error:
        channel = VerdictChannel(ends.channel, meta["nonce"])
        channel.end("stuck", f"could not enter its namespaces: {error}")
    task.run(outfit, job, ends, meta["nonce"])


def _seed_home(home: Path, font_caches: list[str]) -> None:
    """The directory that programs will call home, for the imports to write to: matplotlib's
    list of fonts takes seconds to make, and remembers where it lies."""
    cache = home / ".cache" / "matplotlib"
    cache.mkdir(parents=True)
    (home / ".config" / "matplotlib").mkdir(parents=True)
    for path in font_caches:
        shutil.copy(path, cache)
    os.environ["HOME"] = str(home)


def _files_in(home: Path) -> dict[str, bytes]:
    """What imports have left there, by relative path."""
    files = [path for path in sorted(home.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in files
        if path.suffix != ".matplotlib-lock"
    }


def _has_started_threads() -> bool:
    comms = [entry / "comm" for entry in Path("/proc/self/task").iterdir()]
    names = [comm.read_text(encoding="utf-8").strip() for comm in comms]
    return sum(name not in _FORKABLE_THREADS for name in names) > 1
