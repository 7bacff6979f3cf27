"""The worker: enters the sandbox, imports what is slow, and forks the init of each program."""

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
import time
from pathlib import Path
from typing import Any, NoReturn

from . import filesystem, init, kernel, processes
from .messages import MAX_FRAME_BYTES, encode_frame
from .process_guards import ProcessGuards, find_guards
from .processes import Unwind, failure_of, trampoline
from .task_setup import TaskSetup, prepare

_LAST_KILL_S = 1.0


def main(settings: dict[str, Any], socket_fd: int) -> NoReturn:
    """Serve programs on the socket until it closes."""
    sock = socket.socket(fileno=socket_fd)
    trampoline(functools.partial(_start, settings, sock))


def _start(settings: dict[str, Any], sock: socket.socket) -> NoReturn:
    guards, by_user_namespace = None, False
    os.umask(0o022)
    try:
        # Before the host's, after the programs': the kernel out of memory takes the largest.
        Path("/proc/self/oom_score_adj").write_text("500", encoding="utf-8")
        if settings["namespaces"]:
            _enter_sandbox(settings)
            by_user_namespace = _give_up_root()
            filesystem.check_readable(settings["must_read"])
            _begin_pid_namespace(sock)
        else:
            guards = find_guards(settings)
        greeting, setup = prepare(settings, guards, by_user_namespace=by_user_namespace)
    except OSError as error:
        sock.sendall(encode_frame({"error": str(error)}))
        os._exit(1)
    greeting |= {
        "primitives": _primitives(guards, by_user_namespace=by_user_namespace),
        "user_namespace": by_user_namespace,
        "python": list(sys.version_info[:3]),
    }
    sock.sendall(encode_frame(greeting))
    if setup is None:
        os._exit(1)
    if guards is not None:
        shutil.rmtree(setup.home.parent, ignore_errors=True)
    # Not a byte is read here: what a program finds in its memory comes from this process.
    while sock.recv(1, socket.MSG_PEEK):
        _judge(setup, sock)
    _end(setup)


def _enter_sandbox(settings: dict[str, Any]) -> None:
    """New namespaces, and the read-only root."""
    uid, gid = os.getuid(), os.getgid()
    flags = init.NAMESPACES | kernel.CLONE_NEWUTS
    kernel.unshare(flags if uid == 0 else flags | kernel.CLONE_NEWUSER)
    if uid != 0:
        kernel.map_identity(uid, gid)
    filesystem.enter_root(settings["steps"])
    socket.sethostname("sandbox")
    importlib.invalidate_caches()
    sys.path_importer_cache.clear()
    sys.path[:] = [entry for entry in sys.path if Path(entry).exists()]


def _begin_pid_namespace(sock: socket.socket) -> None:
    """Go on as the first process of a new pid namespace, with which all others in it end. The old
    process only waits."""
    kernel.die_with_parent()
    kernel.unshare(kernel.CLONE_NEWPID)
    child = os.fork()
    if child:
        sock.close()
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    kernel.die_with_parent()


def _give_up_root() -> bool:
    """Give up root where programs can have user namespaces without it, and say whether they
    can: then this process gets one of its own, to have rights over what it makes and over
    nothing else. Root without user namespaces keeps its capabilities for the trusted
    processes; the task gives them up all the same. Raises OSError where there is no way."""
    os.chdir("/")
    failures = []
    for by_user_namespace in (True, False) if os.getuid() == 0 else (True,):
        failure = failure_of(functools.partial(_try_namespaces, by_user_namespace))
        if failure is None:
            if by_user_namespace:
                _enter_user_namespace()
            return by_user_namespace
        failures.append(failure)
    raise OSError("; as root: ".join(failures))


def _enter_user_namespace() -> None:
    if os.getuid() == 0:
        kernel.become_sandbox_user()
    kernel.enter_user_namespace()


def _try_namespaces(by_user_namespace: bool) -> None:
    """In a child: what each program's guards will do. Raises OSError."""

    def as_init() -> None:
        filesystem.mount_private(2**20, [], [])
        kernel.raise_loopback()
        if by_user_namespace:
            # The task's own, below that of the worker.
            kernel.enter_user_namespace()

    if by_user_namespace:
        _enter_user_namespace()
    kernel.unshare(init.NAMESPACES | kernel.CLONE_NEWPID)
    failure = failure_of(as_init)
    if failure is not None:
        raise OSError(failure)


def _primitives(guards: ProcessGuards | None, *, by_user_namespace: bool) -> list[str]:
    """What isolates the programs, in words."""
    if guards is None:
        user = "user namespaces" if by_user_namespace else "root given up per sample"
        found = [user, "pid, mount, network and ipc namespaces", "seccomp"]
    else:
        found = ["user nobody"] if guards.as_root else []
        found += [f"Landlock {guards.landlock}"] if guards.landlock else []
        found += ["seccomp"] if guards.seccomp else []
    return [*found, "resource limits"]


def _judge(setup: TaskSetup, sock: socket.socket) -> None:
    """One program: fork its init, pass its report on with CPU and wall time."""
    reader, writer = os.pipe()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start_s = time.monotonic()
    if setup.guards is None:
        # Holds for our children alone. From the namespace of the one before no new one is made.
        own = os.open("/proc/self/ns/pid", os.O_RDONLY)
        kernel.enter_namespace(own, kernel.CLONE_NEWPID)
        os.close(own)
        kernel.unshare(kernel.CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        os.close(reader)
        raise Unwind(functools.partial(init.run, setup, sock, writer))
    os.close(writer)
    data = _read_report(reader, sock)
    os.close(reader)
    if data is None:
        os.kill(child, signal.SIGKILL)
        _end(setup)
    os.waitpid(child, 0)
    if setup.guards is not None:
        # A process that init has not killed in time is orphaned and becomes our child.
        processes.kill_descendants(longest_s=_LAST_KILL_S)
        filesystem.remove_tree(str(setup.home.parent))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        report = json.loads(data)
    except ValueError:
        # The tests may still lie unread in the socket: only a fresh worker is in step.
        os._exit(3)
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    report["cpu_s"] = max(spent_s, report.pop("cpu_polled_s", 0.0))
    report["wall_s"] = time.monotonic() - start_s
    sock.sendall(encode_frame(report))


def _read_report(reader: int, sock: socket.socket) -> bytes | None:
    """What init has written; None where the host ends before."""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    # Only the other side's end is looked for; other messages are not read here.
    poll.register(sock, 0)
    data = b""
    while len(data) <= MAX_FRAME_BYTES:
        for fd, _ in poll.poll():
            if fd != reader:
                return None
            part = os.read(reader, 2**20)
            if not part:
                return data
            data += part
    return data


def _end(setup: TaskSetup) -> NoReturn:
    if setup.guards is not None:
        # Without a pid namespace no program dies with its init.
        processes.kill_descendants(longest_s=_LAST_KILL_S)
        filesystem.remove_tree(str(setup.home.parent))
        shutil.rmtree(setup.home.parents[1], ignore_errors=True)
    os._exit(0)
