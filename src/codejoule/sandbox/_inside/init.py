"""Pid 1 of one sample: trusted; mounts, watches memory, and at the end kills everyone.

The kernel delivers no signal to a pid 1 from within its own pid namespace unless it asked for
it, so nothing that runs below can end this process. Without namespaces it is an ordinary
process that adopts the sample's orphans, and a Landlock scope or the system call filter keeps
signals away from it.
"""

import contextlib
import dataclasses
import functools
import os
import resource
import select
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import kernel, processes
from .forks import Become
from .frames import encode_frame
from .rootfs import make_mount_point

if TYPE_CHECKING:
    from .supervisor import Context

_WATCH_PERIOD_S = 0.05
_KILL_S = 0.4
"""How long to go on killing before leaving the rest to the kernel."""
_TMPFS_FILES = 65536
_TICK_HZ = os.sysconf("SC_CLK_TCK")


NAMESPACES_OF_A_TASK = {
    "pid": kernel.CLONE_NEWPID,
    "mnt": kernel.CLONE_NEWNS,
    "net": kernel.CLONE_NEWNET,
    "ipc": kernel.CLONE_NEWIPC,
}
"""Names under /proc, in the order in which a task enters them."""


@dataclasses.dataclass(frozen=True)
class Ends:
    """The task's ends of the supervisor's channels, as file descriptors."""

    channel: int
    failures: int
    output: int


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the sample lives."""

    folder: str
    """In which it may write."""
    work: str
    """Its working directory."""
    home: str


def run(
    context: "Context", job: dict[str, Any], control: int, ends: Ends, nonce: str,
    zygote: socket.socket | None,
) -> NoReturn:  # fmt: skip
    """Prepare the sample's view, start the task, watch, kill, count, report, end. Without a
    `zygote` to ask for it, the task is a child of this process."""
    kernel.die_with_parent()
    # Python's own handler for SIGINT would make this process killable from below.
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    try:
        place = _prepare_place(context, int(job["tmp_bytes"]))
    except OSError as error:
        _tell(control, {"error": str(error), "exit": None})
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
    os.close(ends.channel)
    os.close(ends.failures)
    os.close(ends.output)
    everyone = processes.below_init if context.guards is None else processes.descendants
    watch = _Watch(child, zygote, int(job["memory_bytes"]), everyone)
    watch.until_the_end(control)
    watch.kill_everyone()
    _tell(control, watch.summary())
    os._exit(0)


def _ask_for_task(
    zygote: socket.socket, job: dict[str, Any], ends: Ends, nonce: str, place: Place
) -> None:
    """Have it fork a task into this process's namespaces. It is the task itself that reads
    the job: the zygote remembers nothing of a sample."""
    fds = [os.open(f"/proc/self/ns/{name}", os.O_RDONLY) for name in NAMESPACES_OF_A_TASK]
    meta = {"nonce": nonce, "place": dataclasses.asdict(place)}
    # A zygote that is gone is found out by the watch, as a task that has ended.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        socket.send_fds(zygote, [b"t"], [*fds, ends.channel, ends.failures, ends.output])
        zygote.sendall(encode_frame(meta) + encode_frame(job))
    for fd in fds:
        os.close(fd)


def _prepare_place(context: "Context", tmp_bytes: int) -> Place:
    """Where the sample may write. Raises OSError."""
    guards = context.guards
    if guards is None:
        prepare_mounts(tmp_bytes, context.private, context.exposed)
        kernel.raise_loopback()
        return Place(folder="/tmp", work="/tmp/sandbox-work", home=context.home)
    kernel.adopt_orphans()
    folder = Path(context.home).parent
    if folder.exists():
        folder.rename(tempfile.mkdtemp(dir=folder.parent))
    folder.mkdir(mode=0o700)
    if guards.as_root:
        os.chown(folder, kernel.SANDBOX_ID, kernel.SANDBOX_ID)
    return Place(folder=str(folder), work=f"{folder}/work", home=context.home)


def remove_tree(folder: str) -> None:
    """Remove what a sample left, however it set the modes of its directories; what cannot be
    removed now goes with the folder around it."""

    def reopen(function: Callable[..., Any], path: str, _: Any) -> None:
        with contextlib.suppress(OSError):
            Path(path).parent.chmod(0o700)
            if not Path(path).is_symlink():
                Path(path).chmod(0o700)
            if function is os.unlink or function is os.rmdir:
                function(path)
            else:
                shutil.rmtree(path, ignore_errors=True)

    shutil.rmtree(folder, onerror=reopen)


def prepare_mounts(tmp_bytes: int, private: list[str], exposed: list[str]) -> None:
    """Fresh directories at the `private` paths (/tmp and its like) of at most `tmp_bytes`
    each, and a /proc that knows this pid namespace alone. `exposed` are directories under
    those paths that hold the interpreter's files: they are brought back, read-only, into the
    fresh ones. Raises OSError."""
    kernel.make_mounts_private()
    held = [(path, os.open(path, os.O_PATH)) for path in exposed]
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    limits = f"size={tmp_bytes},nr_inodes={_TMPFS_FILES},mode=1777"
    for path in private:
        kernel.mount("tmpfs", path, "tmpfs", flags, limits)
    for path, fd in held:
        source = f"/proc/self/fd/{fd}"
        make_mount_point(source, path)
        kernel.bind_read_only(source, path)
        os.close(fd)
    kernel.mount("proc", "/proc", "proc", flags | kernel.MS_NOEXEC)


def _tell(control: int, message: dict[str, Any]) -> None:
    data = encode_frame(message)
    while data:
        data = data[os.write(control, data) :]


class _Watch:
    """The sample's processes: how much memory and CPU time they use, and their end."""

    def __init__(
        self, child: int | None, zygote: socket.socket | None, limit_bytes: int,
        everyone: Callable[[], list[int]],
    ) -> None:  # fmt: skip
        self._child = child
        self._zygote = zygote
        self._everyone = everyone
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
        # A sample ends when its first process ends; without pidfd the next tick notices.
        with contextlib.ExitStack() as stack:
            end = stack.enter_context(_PidFd(self._child)) if self._child else self._zygote
            if end is not None:
                poll.register(end, select.POLLIN)
            next_s = time.monotonic() + _WATCH_PERIOD_S
            while True:
                left_s = next_s - time.monotonic()
                events = poll.poll(max(0.0, left_s) * 1000)
                if any(where == control for where, _ in events):
                    return
                self._reap(os.WNOHANG)
                if self._has_ended():
                    return
                if time.monotonic() >= next_s:
                    self._look()
                    if self._over_memory:
                        return
                    next_s = time.monotonic() + _WATCH_PERIOD_S

    def _has_ended(self) -> bool:
        """Whether the task has."""
        if self._zygote is None:
            return self._exit is not None
        # The zygote, which is its parent, shuts its end of the socket then.
        poll = select.poll()
        poll.register(self._zygote, select.POLLIN)
        return bool(poll.poll(0))

    def kill_everyone(self) -> None:
        """Kill all of the sample's processes and reap them, so that their CPU time is ours and
        the kernel's count is whole: killing pid 1 instead would lose it."""
        self._look(memory=False)
        until_s = time.monotonic() + _KILL_S
        while time.monotonic() < until_s:
            for pid in [-1] if os.getpid() == 1 else self._everyone():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            # In this order: what the task leaves behind is ours by the time it has ended.
            ended = self._zygote is None or self._has_ended()
            if not self._reap(os.WNOHANG) and ended:
                return
            time.sleep(0.0005)

    def summary(self) -> dict[str, Any]:
        """What the supervisor reports of this sample."""
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        return {
            "exit": self._exit,
            "over_memory": self._over_memory,
            "memory_peak_bytes": max(self._peak_bytes, largest),
            "cpu_polled_s": sum(self._cpu_s.values()),
        }

    def _reap(self, options: int) -> bool:
        """Reap all that have ended; False when no child is left at all."""
        while True:
            try:
                pid, status = os.waitpid(-1, options)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._child:
                self._exit = os.waitstatus_to_exitcode(status)

    def _look(self, *, memory: bool = True) -> None:
        pids = self._everyone()
        resident = 0
        for pid in pids:
            try:
                resident += processes.resident_bytes(pid)
                start, cpu_s = _started_and_cpu_s(pid)
            except (OSError, ValueError, IndexError):
                continue
            # A reaped child that its parent ignored (SIGCHLD) is in nobody's account.
            self._cpu_s[pid, start] = cpu_s
        # Resident memory counts shared pages once per process, so it bounds the
        # proportional set size from above; the dear figure is asked for only if it matters.
        if not memory or resident <= self._peak_bytes:
            return
        self._peak_bytes = max(self._peak_bytes, sum(map(processes.proportional_bytes, pids)))
        self._over_memory = self._peak_bytes > self._limit_bytes


class _PidFd:
    """A file descriptor that becomes readable when the process ends; None before Linux 5.3."""

    def __init__(self, pid: int) -> None:
        try:
            self._fd: int | None = os.pidfd_open(pid)
        except (OSError, AttributeError):
            self._fd = None

    def __enter__(self) -> int | None:
        return self._fd

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.close(self._fd)


def _started_and_cpu_s(pid: int) -> tuple[str, float]:
    # The command's name, in parentheses, may hold anything.
    fields = processes.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19], (int(fields[11]) + int(fields[12])) / _TICK_HZ
