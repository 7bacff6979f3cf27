"""The worker: enters the sandbox once, imports what is slow to import, forks per sample."""

import dataclasses
import functools
import importlib
import json
import os
import resource
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from . import init, kernel, landlock, processes, rootfs, seccomp, supervisor, task
from .become import Become, trampoline
from .frames import MAX_FRAME_BYTES, encode_frame, receive_frame
from .outcomes import Outcomes
from .snapshot import Snapshot, freeze

_NAMESPACES_PER_SAMPLE = (
    kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC
)


_LAST_KILL_S = 1.0

_FORKABLE_THREADS = frozenset({"jemalloc_bg_thd"})
"""Threads of libraries that look after themselves when the process forks: jemalloc's."""


class ThreadStartedError(Exception):
    """A module, named by the text, starts a thread when imported: a fork would lack it."""


def main(settings: dict[str, Any], socket_fd: int) -> NoReturn:
    """Serve samples on the socket until it closes."""
    trampoline(functools.partial(_start, settings, socket.socket(fileno=socket_fd)))


def _start(settings: dict[str, Any], sock: socket.socket) -> NoReturn:
    try:
        in_cgroup = _enter_cgroup(settings["cgroup"])
        if settings["launcher"] == "namespaces":
            _enter_sandbox(settings, sock)
        alone, by_user_namespace = None, False
        if settings["launcher"] == "process":
            alone = _settle_alone(settings)
        else:
            by_user_namespace = _settle(settings)
            _check_readable(settings["must_read"])
        home = Path(settings["home"])
        _seed_home(home, settings["font_caches"])
        imported = _preimport(settings["preimport"])
        files = _files_in(home)
        if alone is not None:
            shutil.rmtree(home.parent)
    except OSError as error:
        sock.sendall(encode_frame({"error": str(error)}))
        os._exit(1)
    except ThreadStartedError as error:
        sock.sendall(encode_frame({"start_without": str(error)}))
        os._exit(1)
    # Anyone could otherwise reach this program's modules through sys.modules.
    for name in [name for name in sys.modules if name.startswith("codejoule_inside")]:
        del sys.modules[name]
    sys.modules["__main__"] = types.ModuleType("__main__")
    hello = {
        "hello": True,
        "primitives": _primitives(alone, by_user_namespace=by_user_namespace),
        "user_namespace": by_user_namespace,
        "in_cgroup": in_cgroup,
        "python": list(sys.version_info[:3]),
        "preimported": imported,
    }
    context = supervisor.Context(
        alone=alone,
        namespaces=_NAMESPACES_PER_SAMPLE,
        by_user_namespace=by_user_namespace,
        private=settings["private"],
        exposed=settings["exposed"],
        environment=settings["environment"],
        home=settings["home"],
        files=files,
        seccomp_program=seccomp.build_program(),
        snapshot=Snapshot(Outcomes),
    )
    freeze()
    sock.sendall(encode_frame(hello))
    while True:
        job = receive_frame(sock)
        if job is None:
            os._exit(0)
        _judge(context, job, sock)


def _enter_sandbox(settings: dict[str, Any], sock: socket.socket) -> None:
    """Without bubblewrap: namespaces and the read-only root, made here. The process that
    stays behind outside only waits, because a new pid namespace begins with a child."""
    kernel.die_with_parent()
    rootfs.enter_namespaces(as_root=os.getuid() == 0)
    child = os.fork()
    if child:
        sock.close()
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    kernel.die_with_parent()
    rootfs.enter_root(settings["steps"])
    socket.sethostname("sandbox")
    importlib.invalidate_caches()
    sys.path_importer_cache.clear()
    sys.path[:] = [entry for entry in sys.path if Path(entry).exists()]


def _settle(settings: dict[str, Any]) -> bool:
    """Give up root where samples can have user namespaces without it, and say whether they
    can. Root without user namespaces keeps its capabilities for the trusted processes; the
    task gives them up all the same. Raises OSError where there is no way."""
    os.umask(0o022)
    os.chdir("/")
    uid = os.getuid()
    failure = _try_namespaces(by_user_namespace=True)
    if failure is None:
        if uid == 0:
            kernel.become_sandbox_user()
            kernel.die_with_parent()
        return True
    if uid != 0:
        raise OSError(failure)
    failure_of_root = _try_namespaces(by_user_namespace=False)
    if failure_of_root is not None:
        raise OSError(f"{failure}; as root: {failure_of_root}")
    return False


def _settle_alone(settings: dict[str, Any]) -> "supervisor.Alone":
    """Find out which guards there are without namespaces. Raises OSError where samples would
    be root, or could not read their Python."""
    os.umask(0o022)
    os.chdir("/")
    kernel.adopt_orphans()
    wanted = supervisor.Alone(
        as_root=os.getuid() == 0,
        landlock=landlock.abi(),
        seccomp=True,
        readable=settings["readable"],
        devices=settings["devices"],
    )
    folder = tempfile.mkdtemp(dir=Path(settings["home"]).parents[1])
    if _failure_of(functools.partial(_try_landlock, wanted, folder)) is not None:
        wanted = dataclasses.replace(wanted, landlock=0)
    if _failure_of(functools.partial(_try_seccomp, wanted)) is not None:
        wanted = dataclasses.replace(wanted, seccomp=False)

    def whole() -> None:
        task.confine_alone(wanted, folder)
        _check_readable(settings["must_read"])

    failure = _failure_of(whole)
    if failure is not None:
        raise OSError(failure)
    shutil.rmtree(folder)
    kernel.set_dumpable(False)
    return wanted


def _try_landlock(wanted: "supervisor.Alone", folder: str) -> None:
    kernel.drop_capabilities_for_good()
    landlock.restrict(wanted.landlock, readable=wanted.readable, devices=wanted.devices, own=folder)


def _try_seccomp(wanted: "supervisor.Alone") -> None:
    kernel.drop_capabilities_for_good()
    seccomp.install(seccomp.build_program(alone=True, landlock=wanted.landlock))


def _primitives(alone: "supervisor.Alone | None", *, by_user_namespace: bool) -> list[str]:
    """What isolates the samples, in words."""
    if alone is None:
        user = "user namespaces" if by_user_namespace else "root given up per sample"
        found = [user, "pid, mount, network and ipc namespaces", "seccomp"]
    else:
        found = ["user nobody"] if alone.as_root else []
        found += [f"Landlock {alone.landlock}"] if alone.landlock else []
        found += ["seccomp"] if alone.seccomp else []
    return [*found, "resource limits"]


def _enter_cgroup(procs: int | None) -> bool:
    """Join the group whose ``cgroup.procs`` the host has opened: it counts our CPU time."""
    if procs is None:
        return False
    try:
        os.write(procs, b"0")
    except OSError:
        # Before Linux 5.16 the writer's own rights count, not the opener's.
        return False
    finally:
        os.close(procs)
    return True


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


def _try_namespaces(*, by_user_namespace: bool) -> str | None:
    """What goes wrong, if anything, when a child does what each sample's init will do."""

    def as_init() -> None:
        init.prepare_mounts(2**20, [], [])
        kernel.raise_loopback()

    def as_supervisor() -> None:
        if by_user_namespace and os.getuid() == 0:
            kernel.become_sandbox_user()
        supervisor.enter_namespaces(_NAMESPACES_PER_SAMPLE, by_user_namespace=by_user_namespace)
        failure = _failure_of(as_init)
        if failure is not None:
            raise OSError(failure)

    return _failure_of(as_supervisor)


def _failure_of(step: Callable[[], None]) -> str | None:
    """Text of the error that `step` raises in a child, None if it succeeds."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            step()
        except Exception as error:
            os.write(writer, (str(error) or repr(error)).encode("utf-8", "backslashreplace"))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        text = stream.read().decode("utf-8")
    os.waitpid(child, 0)
    return text or None


def _check_readable(paths: list[str]) -> None:
    for path in paths:
        if not os.access(path, os.R_OK | (os.X_OK if os.path.isdir(path) else 0)):  # noqa: PTH112
            raise OSError(
                f"{path} cannot be read by user {os.getuid()}, as which samples run; "
                f"make it so with: chmod -R a+rX {path}{_and_above(path)}"
            )


def _and_above(path: str) -> str:
    """The topmost closed directory above `path`, if any: a sandbox that binds it passes by."""
    closed = [str(above) for above in Path(path).parents if not os.access(above, os.X_OK)]
    return f", and let others through {closed[-1]}: chmod a+x {closed[-1]}" if closed else ""


def _preimport(names: list[str]) -> list[str]:
    """Import what samples will want, so that each fork has it for nothing. A module that is
    missing or fails is left for the samples to find out. Raises `ThreadStartedError`."""
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
            raise ThreadStartedError(name)
    return done


def _judge(context: "supervisor.Context", job: dict[str, Any], sock: socket.socket) -> None:
    """One sample: fork its supervisor, pass its report on with CPU and wall time."""
    reader, writer = os.pipe()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start_s = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reader)
        raise Become(functools.partial(supervisor.run, context, job, sock, writer))
    os.close(writer)
    data = _read_report(reader, sock, child)
    os.close(reader)
    os.waitpid(child, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        report = json.loads(data)
    except ValueError:
        # The tests may still lie unread in the socket: only a fresh worker is in step.
        os._exit(3)
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    report["cpu_s"] = max(spent_s, report.pop("cpu_polled_s"))
    report["wall_s"] = time.monotonic() - start_s
    if context.alone is not None:
        init.remove_tree(str(Path(context.home).parent))
    sock.sendall(encode_frame(report))


def _read_report(reader: int, sock: socket.socket, child: int) -> bytes:
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    # Nothing but the other side's end: what else arrives is for the supervisor to read.
    poll.register(sock, 0)
    data = b""
    while len(data) <= MAX_FRAME_BYTES:
        for fd, _ in poll.poll():
            if fd != reader:
                os.kill(child, signal.SIGKILL)
                # Without a pid namespace the sample does not die with its supervisor.
                processes.kill_descendants(longest_s=_LAST_KILL_S)
                os._exit(0)
            part = os.read(reader, 2**20)
            if not part:
                return data
            data += part
    return data
