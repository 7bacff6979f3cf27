"""The process that has imported what is slow to import, and that every task is forked from.

It never sees a program or a test. Supervisors and inits are not forked from it: each copy of
its memory map costs milliseconds. A task is, and then enters the namespaces of its sample.
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
from .init import NAMESPACES_OF_A_TASK, Ends, Place
from .outcomes import Outcomes
from .process_guards import Alone
from .snapshot import Snapshot, freeze
from .verdict_channel import Voice

_FORKABLE_THREADS = frozenset({"jemalloc_bg_thd"})
"""Threads of libraries that look after themselves when the process forks: jemalloc's."""


class _ThreadStartedError(Exception):
    """A module, named by the text, starts a thread when imported: a fork would lack it."""


def prepare(
    settings: dict[str, Any], guards: Alone | None, *, by_user_namespace: bool
) -> tuple[dict[str, Any], task.Outfit | None]:
    """What to tell the host, and what every task begins with: None where it is bad news."""
    home = Path(settings["home"])
    try:
        _seed_home(home, settings["font_caches"])
        imported = _preimport(settings["preimport"])
    except OSError as error:
        return {"error": str(error)}, None
    except _ThreadStartedError as error:
        return {"start_without": str(error)}, None
    outfit = task.Outfit(
        guards=guards,
        by_user_namespace=by_user_namespace,
        environment=settings["environment"],
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
    """Greet on `line`, then fork a task for each sample, whose socket comes through it, and
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


def _serve(outfit: task.Outfit, sample: socket.socket) -> dict[str, Any]:
    """Fork the task that the init at the other end of `sample` asks for, and wait for its end,
    which init sees by our end being closed. Empty if init is gone already."""
    wanted = len(NAMESPACES_OF_A_TASK) + 3
    _, fds, _, _ = socket.recv_fds(sample, 1, wanted)
    child = _fork_into(fds[0]) if len(fds) == wanted else None
    if child == 0:
        # Nothing may be closed on the way: no `with` or `finally` around this.
        raise Become(functools.partial(_enter, outfit, sample, fds))
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
    sample.close()
    return report


def _fork_into(pid_namespace: int) -> int | None:
    """As `os.fork`, but the child is born there; None where its init has ended."""
    try:
        # Holds for our children alone. Never undone: the next sample brings the next one.
        kernel.enter_namespace(pid_namespace, kernel.CLONE_NEWPID)
        return os.fork()
    except OSError:
        return None


def _enter(outfit: task.Outfit, sample: socket.socket, fds: list[int]) -> NoReturn:
    """In the new task: join its sample, with no rights there, and become it."""
    meta, job = receive_frame(sample), receive_frame(sample)
    if meta is None or job is None:
        os._exit(1)
    sample.close()
    channel, failures, output = fds[-3:]
    ends = Ends(channel=channel, failures=failures, output=output)
    nonce, place = meta["nonce"], Place(**meta["place"])
    try:
        # The first is the pid namespace, which it was born into.
        for kind, fd in list(zip(NAMESPACES_OF_A_TASK.values(), fds, strict=False))[1:]:
            kernel.enter_namespace(fd, kind)
        if outfit.by_user_namespace:
            kernel.enter_user_namespace()
    except OSError as error:
        Voice(channel, nonce).end("stuck", f"could not enter its namespaces: {error}")
    task.run(outfit, job, ends, nonce, place)


def _seed_home(home: Path, font_caches: list[str]) -> None:
    """The directory that samples will call home, for the imports to write to: matplotlib's
    list of fonts takes seconds to make, and remembers where it lies."""
    cache = home / ".cache" / "matplotlib"
    cache.mkdir(parents=True)
    (home / ".config" / "matplotlib").mkdir(parents=True)
    for path in font_caches:
        shutil.copy(path, cache)
    os.environ["HOME"] = str(home)


def _files_in(home: Path) -> dict[str, bytes]:
    files = {
        str(path.relative_to(home)): path.read_bytes()
        for path in sorted(home.rglob("*"))
        if path.is_file() and path.suffix != ".matplotlib-lock"
    }
    return {**files, ".config/matplotlib/": b""}


def _preimport(names: list[str]) -> list[str]:
    """Import what samples will want, so that each fork has it for nothing. A module that is
    missing or fails is left for the samples to find out. Raises
    `_ThreadStartedError`."""
    done = []
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:
            continue
        done.append(name)
        comms = [entry / "comm" for entry in Path("/proc/self/task").iterdir()]
        threads = sorted(comm.read_text(encoding="utf-8").strip() for comm in comms)
        if len(threads) - sum(thread in _FORKABLE_THREADS for thread in threads) > 1:
            raise _ThreadStartedError(name)
    return done
