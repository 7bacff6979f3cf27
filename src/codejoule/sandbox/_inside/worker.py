"""The worker: enters the sandbox once, starts the zygote, and has each program guarded."""

import contextlib
import functools
import gc
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
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from . import filesystem, init, kernel, processes
from .forks import Become, failure_of, trampoline
from .frames import MAX_FRAME_BYTES, encode_frame, receive_frame
from .process_guards import ProcessGuards, find_guards

_LAST_KILL_S = 1.0


def main(settings: dict[str, Any], load_tasks: Callable[[], None], socket_fd: int) -> NoReturn:
    """Serve programs on the socket until it closes. `load_tasks` makes `task` and `zygote`,
    and what they need, importable: the guards are lighter to fork without."""
    sock = socket.socket(fileno=socket_fd)
    trampoline(functools.partial(_start, settings, load_tasks, sock))


def _start(
    settings: dict[str, Any], load_tasks: Callable[[], None], sock: socket.socket
) -> NoReturn:
    guards, run_task, line, by_user_namespace = None, None, None, False
    try:
        # Before the host's, after the programs': the kernel out of memory takes the largest.
        Path("/proc/self/oom_score_adj").write_text("500", encoding="utf-8")
        in_cgroup = _enter_cgroup(settings["cgroup"])
        if settings["namespaces"]:
            _enter_sandbox(settings, sock)
            by_user_namespace = _give_up_root()
            filesystem.check_readable(settings["must_read"])
        else:
            guards = find_guards(settings)
    except OSError as error:
        sock.sendall(encode_frame({"error": str(error)}))
        os._exit(1)
    greeting: dict[str, Any]
    if guards is None:
        line = _start_zygote(settings, load_tasks, sock, by_user_namespace=by_user_namespace)
        # Where there is none, its last words stand in the standard error.
        greeting = receive_frame(line) or os._exit(1)
    else:
        greeting, run_task = _prepare_here(settings, load_tasks, guards)
    if "preimported" not in greeting:
        sock.sendall(encode_frame(greeting))
        os._exit(1)
    context = init.Context(guards=guards, run_task=run_task, settings=settings)
    greeting |= {
        "primitives": _primitives(guards, by_user_namespace=by_user_namespace),
        "user_namespace": by_user_namespace,
        "in_cgroup": in_cgroup,
        "python": list(sys.version_info[:3]),
    }
    gc.collect()
    gc.freeze()
    sock.sendall(encode_frame(greeting))
    while (job := receive_frame(sock)) is not None:
        _judge(context, job, sock, line)
    if line is not None:
        # Reaped here, its CPU time is counted by whoever waits for this process.
        line.close()
        os.waitpid(-1, 0)
    os._exit(0)


def _start_zygote(
    settings: dict[str, Any], load_tasks: Callable[[], None], sock: socket.socket, *,
    by_user_namespace: bool,
) -> socket.socket:  # fmt: skip
    """The line to it."""
    ours, theirs = socket.socketpair()

    def be_zygote() -> NoReturn:
        load_tasks()
        from . import zygote

        zygote.run(settings, theirs, by_user_namespace=by_user_namespace)

    if os.fork() == 0:
        ours.close()
        sock.close()
        raise Become(be_zygote)
    theirs.close()
    return ours


def _prepare_here(
    settings: dict[str, Any], load_tasks: Callable[[], None], guards: ProcessGuards
) -> tuple[dict[str, Any], Callable[..., NoReturn] | None]:
    """Without namespaces this process is the zygote: a program's processes are found, and
    killed, as the descendants of its own init."""
    load_tasks()
    from . import task, zygote

    greeting, outfit = zygote.prepare(settings, guards, by_user_namespace=False)
    shutil.rmtree(Path(settings["home"]).parent, ignore_errors=True)
    return greeting, None if outfit is None else functools.partial(task.run, outfit)


def _enter_sandbox(settings: dict[str, Any], sock: socket.socket) -> None:
    """New namespaces, and the read-only root. The process that stays behind outside only
    waits, because a new pid namespace begins with a child."""
    kernel.die_with_parent()
    uid, gid = os.getuid(), os.getgid()
    flags = init.NAMESPACES | kernel.CLONE_NEWUTS
    kernel.unshare(flags if uid == 0 else flags | kernel.CLONE_NEWUSER)
    if uid != 0:
        kernel.map_identity(uid, gid)
    child = os.fork()
    if child:
        sock.close()
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    kernel.die_with_parent()
    filesystem.enter_root(settings["steps"])
    socket.sethostname("sandbox")
    importlib.invalidate_caches()
    sys.path_importer_cache.clear()
    sys.path[:] = [entry for entry in sys.path if Path(entry).exists()]


def _give_up_root() -> bool:
    """Give up root where programs can have user namespaces without it, and say whether they
    can: then this process gets one of its own, to have rights over what it makes and over
    nothing else. Root without user namespaces keeps its capabilities for the trusted
    processes; the task gives them up all the same. Raises OSError where there is no way."""
    os.umask(0o022)
    os.chdir("/")
    uid = os.getuid()
    failure = _try_namespaces(by_user_namespace=True)
    if failure is None:
        if uid == 0:
            kernel.become_sandbox_user()
        kernel.enter_user_namespace()
        kernel.die_with_parent()
        return True
    if uid != 0:
        raise OSError(failure)
    failure_of_root = _try_namespaces(by_user_namespace=False)
    if failure_of_root is not None:
        raise OSError(f"{failure}; as root: {failure_of_root}")
    return False


def _try_namespaces(*, by_user_namespace: bool) -> str | None:
    """What goes wrong, if anything, when a child does what each program's guards will do."""

    def as_init() -> None:
        filesystem.mount_private(2**20, [], [])
        kernel.raise_loopback()
        if by_user_namespace:
            # The task's own, below that of the worker.
            kernel.enter_user_namespace()

    def as_worker() -> None:
        if by_user_namespace:
            if os.getuid() == 0:
                kernel.become_sandbox_user()
            kernel.enter_user_namespace()
        kernel.unshare(init.NAMESPACES)
        failure = failure_of(as_init)
        if failure is not None:
            raise OSError(failure)

    return failure_of(as_worker)


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


def _enter_cgroup(procs: int | None) -> bool:
    """Join the group whose ``cgroup.procs`` the host has opened: it counts our CPU time."""
    if procs is None:
        return False
    # Before Linux 5.16 the writer's own rights count, not the opener's.
    with contextlib.suppress(OSError), os.fdopen(procs, "wb", buffering=0) as file:
        file.write(b"0")
        return True
    return False


def _judge(
    context: init.Context, job: dict[str, Any], sock: socket.socket, line: socket.socket | None
) -> None:
    """One program: fork its init, pass its report on with CPU and wall time. Where there is a
    zygote, at the other end of `line`, it is handed a socket to that init."""
    reader, writer = os.pipe()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start_s = time.monotonic()
    to_zygote = None if line is None else _connect(line)
    child = os.fork()
    if child == 0:
        os.close(reader)
        raise Become(functools.partial(init.run, context, job, sock, writer, to_zygote))
    os.close(writer)
    if to_zygote is not None:
        to_zygote.close()
    data = _read_report(reader, sock, line, child)
    os.close(reader)
    os.waitpid(child, 0)
    if context.guards is not None:
        # Whom init has not killed in time is orphaned, and ours.
        processes.kill_descendants(longest_s=_LAST_KILL_S)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        report = json.loads(data)
    except ValueError:
        # The tests may still lie unread in the socket: only a fresh worker is in step.
        os._exit(3)
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if line is not None:
        of_task = receive_frame(line)
        if of_task is None:
            os._exit(3)
        spent_s += of_task.get("cpu_s", 0.0)
        report["exit"] = of_task.get("exit")
        peaks_bytes = (report["memory_peak_bytes"], of_task.get("largest_bytes"))
        report["memory_peak_bytes"] = max(filter(None, peaks_bytes), default=None)
    report["cpu_s"] = max(spent_s, report.pop("cpu_polled_s"))
    report["wall_s"] = time.monotonic() - start_s
    if context.guards is not None:
        filesystem.remove_tree(str(context.folder))
    sock.sendall(encode_frame(report))


def _connect(line: socket.socket) -> socket.socket:
    """The end for the program's init of a socket whose other end the zygote gets."""
    ours, theirs = socket.socketpair()
    try:
        socket.send_fds(line, [b"s"], [theirs.fileno()])
    except OSError:
        # The zygote is gone, and nothing can be run without it.
        os._exit(3)
    theirs.close()
    return ours


def _read_report(reader: int, sock: socket.socket, line: socket.socket | None, child: int) -> bytes:
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    # Nothing but the other side's end: what else arrives is not for us to read here.
    poll.register(sock, 0)
    if line is not None:
        poll.register(line, 0)
    data = b""
    while len(data) <= MAX_FRAME_BYTES:
        for fd, _ in poll.poll():
            if fd != reader:
                os.kill(child, signal.SIGKILL)
                # Without a pid namespace the program does not die with its init.
                processes.kill_descendants(longest_s=_LAST_KILL_S)
                os._exit(0 if fd == sock.fileno() else 3)
            part = os.read(reader, 2**20)
            if not part:
                return data
            data += part
    return data
