"""Processes: children that are forked, and those below one: what they use, and their end."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICK_HZ = os.sysconf("SC_CLK_TCK")


class Unwind(BaseException):
    """Raised in a fresh child to unwind to `trampoline`, so that no frame of the parent, and
    nothing such a frame holds, can be reached from code that runs later in the child."""

    def __init__(self, step: Callable[[], NoReturn]) -> None:
        super().__init__()
        self.step = step


def trampoline(first: Callable[[], NoReturn]) -> NoReturn:
    """Run `first` and whatever the children forked in it become."""
    pending = [first]
    while True:
        try:
            pending.pop()()
        except Unwind as turn:
            pending.append(turn.step)


def failure_of(step: Callable[[], None]) -> str | None:
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


def tree(root: int) -> list[int]:
    """Process `root`, its children, their children, and so on; who is orphaned below a
    subreaper is its child again."""
    found = [root]
    for pid in found:
        # Of a process or a thread that has just ended there is nothing to read.
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    found += map(int, (thread / "children").read_text(encoding="ascii").split())
    return found


def everyone() -> list[int]:
    """All processes of this pid namespace."""
    with os.scandir("/proc") as entries:
        return [int(entry.name) for entry in entries if entry.name.isdigit()]


def started_and_cpu_s(pid: int) -> tuple[str, float]:
    """When one process started, and its CPU time [s]. Raises OSError or IndexError."""
    fields = _stat(pid)
    return fields[19], (int(fields[11]) + int(fields[12])) / _TICK_HZ


def cpu_of_tree_s(root: int) -> float:
    """CPU time of process `root`, of those below it, and of those that they have reaped [s].
    Raises OSError where one has just ended."""
    return sum(int(ticks) for pid in tree(root) for ticks in _stat(pid)[11:15]) / _TICK_HZ


def resident_bytes(pid: int) -> int:
    """Memory of one process, what it shares included. Raises OSError."""
    return int(_read(f"/proc/{pid}/statm").split()[1]) * _PAGE_BYTES


def proportional_bytes(pid: int) -> int:
    """Memory of one process, of what it shares its part; 0 when it has ended."""
    with contextlib.suppress(OSError):
        try:
            for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
        except PermissionError:
            # It made itself undumpable. Its shared memory then counts in full.
            return resident_bytes(pid)
    return 0


def kill(pids: Iterable[int]) -> None:
    """Kill those that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def kill_descendants(*, longest_s: float) -> None:
    """Kill and reap them all; one that forks faster than it is killed is left at the end."""
    until_s = time.monotonic() + longest_s
    while time.monotonic() < until_s:
        # All but itself, for the first process of a pid namespace.
        kill([-1] if os.getpid() == 1 else tree(os.getpid())[1:])
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.0005)


def threads_of(uid: int) -> int:
    """How many processes the user has. Without a user namespace they count against the limit."""
    count = 0
    for pid in everyone():
        with contextlib.suppress(OSError):
            process = Path(f"/proc/{pid}")
            if process.stat().st_uid == uid:
                count += len(list((process / "task").iterdir()))
    return count


def _read(path: str) -> str:
    """Beginning of a file of /proc."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 8192).decode("utf-8", "backslashreplace")
    finally:
        os.close(fd)


def _stat(pid: int) -> list[str]:
    # The command's name, in parentheses, may hold anything.
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
