"""Pid 1 of one program: trusted; mounts, watches memory, and at the end kills everyone.

The kernel delivers no signal to a pid 1 from within its own pid namespace unless it asked for
it, so nothing that runs below can end this process. Without namespaces it is an ordinary
process that adopts the program's orphans, and a Landlock scope or the system call filter keeps
signals away from it.
"""

import contextlib
import dataclasses
import functools
import os
import resource
import select
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from . import kernel, processes
from .filesystem import mount_private
from .forks import Become
from .frames import encode_frame
from .process_guards import ProcessGuards

_WATCH_PERIOD_S = 0.05
_KILL_S = 0.4
"""How long to go on killing before leaving the rest to the kernel."""

NAMESPACES_OF_A_TASK = {
    "pid": kernel.CLONE_NEWPID,
    "mnt": kernel.CLONE_NEWNS,
    "net": kernel.CLONE_NEWNET,
    "ipc": kernel.CLONE_NEWIPC,
}
"""Names under /proc, in the order in which a task enters them."""


@dataclasses.dataclass(frozen=True)
class Context:
    """What the worker settled once for all programs."""

    guards: ProcessGuards | None
    """Set under process isolation only."""
    run_task: Callable[..., NoReturn] | None
    """What a task does that is forked here; set under process isolation only, elsewhere tasks
    come from the zygote."""
    private: list[str]
    exposed: list[str]
    home: str
    """The program's home directory, the same for all."""


@dataclasses.dataclass(frozen=True)
class Ends:
    """The task's ends of the supervisor's channels, as file descriptors."""

    channel: int
    failures: int
    output: int


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the program lives."""

    folder: str
    """In which it may write."""
    work: str
    """Its working directory."""
    home: str


def run(
    context: Context, job: dict[str, Any], control: int, ends: Ends, nonce: str,
    zygote: socket.socket | None,
) -> NoReturn:  # fmt: skip
    """Prepare the program's view, start the task, watch, kill, count, report, end. Without a
    `zygote` to ask for it, the task is a child of this process."""
    kernel.die_with_parent()
    # Python's own handler for SIGINT would make this process killable from below.
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    try:
        place = _prepare_place(context, int(job["tmp_bytes"]))
    except OSError as error:
        _tell(control, {"error": str(error)})
        os._exit(1)
    _tell(control, {"started": True})
    child: int | None = None
    if zygote is None:
        assert context.run_task is not None
        child = os.fork()
        if child == 0:
            os.close(control)
            raise Become(functools.partial(context.run_task, job, ends, nonce, place))
    else:
        _ask_for_task(zygote, job, ends, nonce, place)
    for fd in dataclasses.astuple(ends):
        os.close(fd)
    watch = _Watch(child, zygote, int(job["memory_bytes"]))
    watch.until_the_end(control)
    watch.kill_everyone()
    _tell(control, watch.summary())
    os._exit(0)


def _ask_for_task(
    zygote: socket.socket, job: dict[str, Any], ends: Ends, nonce: str, place: Place
) -> None:
    """Have it fork a task into this process's namespaces. It is the task itself that reads
    the job: the zygote remembers nothing of a program."""
    fds = [os.open(f"/proc/self/ns/{name}", os.O_RDONLY) for name in NAMESPACES_OF_A_TASK]
    meta = {"nonce": nonce, "place": dataclasses.asdict(place)}
    # A zygote that is gone is found out by the watch, as a task that has ended.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        socket.send_fds(zygote, [b"t"], [*fds, *dataclasses.astuple(ends)])
        zygote.sendall(encode_frame(meta) + encode_frame(job))
    for fd in fds:
        os.close(fd)


def _prepare_place(context: Context, tmp_bytes: int) -> Place:
    """Where the program may write. Raises OSError."""
    if context.guards is None:
        mount_private(tmp_bytes, context.private, context.exposed)
        kernel.raise_loopback()
        return Place(folder="/tmp", work="/tmp/sandbox-work", home=context.home)
    kernel.adopt_orphans()
    folder = Path(context.home).parent
    if folder.exists():
        folder.rename(tempfile.mkdtemp(dir=folder.parent))
    folder.mkdir(mode=0o700)
    if context.guards.as_root:
        os.chown(folder, kernel.SANDBOX_ID, kernel.SANDBOX_ID)
    return Place(folder=str(folder), work=f"{folder}/work", home=context.home)


def _tell(control: int, message: dict[str, Any]) -> None:
    data = encode_frame(message)
    while data:
        data = data[os.write(control, data) :]


class _Watch:
    """The program's processes: how much memory and CPU time they use, and their end. Its first
    one is our `child`, or that of the `zygote`, which shuts its end of the socket when that
    has ended."""

    def __init__(self, child: int | None, zygote: socket.socket | None, limit_bytes: int) -> None:
        self._child = child
        self._zygote = zygote
        self._limit_bytes = limit_bytes
        self._exit: int | None = None
        self._over_memory = False
        self._peak_bytes = 0
        self._cpu_s: dict[tuple[int, str], float] = {}

    def until_the_end(self, control: int) -> None:
        """Return when the task has ended, memory is over the limit, or the supervisor shuts
        its end of `control`."""
        poll = select.poll()
        poll.register(control, select.POLLIN | select.POLLHUP)
        if self._zygote is not None:
            poll.register(self._zygote, select.POLLIN)
        elif self._child is not None:
            # Before Linux 5.3 the next tick notices.
            with contextlib.suppress(OSError, AttributeError):
                poll.register(os.pidfd_open(self._child), select.POLLIN)
        next_s = time.monotonic() + _WATCH_PERIOD_S
        while not self._over_memory:
            events = poll.poll(max(0.0, next_s - time.monotonic()) * 1000)
            if any(where == control for where, _ in events):
                return
            self._reap()
            if self._has_ended():
                return
            if time.monotonic() >= next_s:
                self._look()
                next_s = time.monotonic() + _WATCH_PERIOD_S

    def _has_ended(self) -> bool:
        """Whether the task has."""
        if self._zygote is None:
            return self._exit is not None
        poll = select.poll()
        poll.register(self._zygote, select.POLLIN)
        return bool(poll.poll(0))

    def kill_everyone(self) -> None:
        """Kill all of the program's processes and reap them, so that their CPU time is ours and
        the kernel's count is whole: killing pid 1 instead would lose it."""
        self._look(memory=False)
        until_s = time.monotonic() + _KILL_S
        while time.monotonic() < until_s:
            for pid in [-1] if os.getpid() == 1 else self._everyone():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            # In this order: what the task leaves behind is ours by the time it has ended.
            ended = self._zygote is None or self._has_ended()
            if not self._reap() and ended:
                return
            time.sleep(0.0005)

    def summary(self) -> dict[str, Any]:
        """What the supervisor reports of this program."""
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        return {
            "exit": self._exit,
            "over_memory": self._over_memory,
            "memory_peak_bytes": max(self._peak_bytes, largest),
            "cpu_polled_s": sum(self._cpu_s.values()),
        }

    def _reap(self) -> bool:
        """Reap all that have ended; False when no child is left at all."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._child:
                self._exit = os.waitstatus_to_exitcode(status)

    def _everyone(self) -> list[int]:
        if os.getpid() == 1:
            return [pid for pid in processes.everyone() if pid != 1]
        return processes.tree(os.getpid())[1:]

    def _look(self, *, memory: bool = True) -> None:
        pids = self._everyone()
        resident = 0
        for pid in pids:
            try:
                resident += processes.resident_bytes(pid)
                start, cpu_s = processes.started_and_cpu_s(pid)
            except (OSError, ValueError, IndexError):
                continue
            # A reaped child that its parent ignored (SIGCHLD) is in nobody's account.
            self._cpu_s[pid, start] = cpu_s
        # Resident memory counts shared pages once per process, so it bounds the
        # proportional set size from above; the dear figure is asked for only if it matters.
        if memory and resident > self._peak_bytes:
            total = sum(map(processes.proportional_bytes, pids))
            self._peak_bytes = max(self._peak_bytes, total)
            self._over_memory = self._peak_bytes > self._limit_bytes
