"""The processes below this one, where no pid namespace holds them together."""

import contextlib
import os
import signal
import time
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def below_init() -> list[int]:
    """Everyone in the pid namespace whose pid 1 this process is."""
    return [pid for pid in _all() if pid != 1]


def descendants() -> list[int]:
    """Children of this process, their children, and so on; who is orphaned below a
    subreaper is its child again."""
    found: list[int] = []
    parents = _parents()
    latest = [os.getpid()]
    while latest:
        latest = [pid for pid, parent in parents.items() if parent in latest]
        found += latest
    return found


def cpu_of_tree_s(root: int) -> float:
    """CPU time of process `root`, of those below it, and of those that they have reaped [s].
    Raises OSError where one has just ended."""
    # The command's name, in parentheses, may hold anything.
    rows = [read(f"/proc/{pid}/stat").rpartition(")")[2].split() for pid in _tree(root)]
    return sum(int(value) for fields in rows for value in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def memory_of_tree_bytes(root: int) -> int:
    """Memory of process `root` and of those below it. Raises OSError where that cannot be
    known."""
    return sum(map(proportional_bytes, _tree(root)))


def kill_tree(root: int) -> None:
    """Kill process `root` and those below it. Raises OSError where they cannot be found."""
    for pid in _tree(root):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _tree(root: int) -> list[int]:
    found, pending = [], [root]
    while pending:
        pid = pending.pop()
        found.append(pid)
        pending += _children(pid)
    return found


def resident_bytes(pid: int) -> int:
    """Memory of one process, what it shares included. Raises OSError."""
    return int(read(f"/proc/{pid}/statm").split()[1]) * _PAGE_BYTES


def proportional_bytes(pid: int) -> int:
    """Memory of one process, of what it shares its part; 0 when it has ended."""
    try:
        for line in read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        return 0
    except PermissionError:
        # It made itself undumpable; then it pays for what it shares, too.
        try:
            return resident_bytes(pid)
        except OSError:
            return 0
    except OSError:
        return 0


def kill_descendants(*, longest_s: float) -> None:
    """Kill and reap them all; one that forks faster than it is killed is left at the end."""
    until_s = time.monotonic() + longest_s
    while time.monotonic() < until_s:
        for pid in descendants():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.0005)


def read(path: str) -> str:
    """Beginning of a file of /proc."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 8192).decode("utf-8", "backslashreplace")
    finally:
        os.close(fd)


def _all() -> list[int]:
    with os.scandir("/proc") as entries:
        return [int(entry.name) for entry in entries if entry.name.isdigit()]


def _parents() -> dict[int, int]:
    """Parent of each process that may be ours. The kernel's list of children is quick; without
    it every process of the machine is asked."""
    me = os.getpid()
    found: dict[int, int] = {}
    try:
        pending = [me]
        while pending:
            pid = pending.pop()
            children = _children(pid)
            found.update(dict.fromkeys(children, pid))
            pending += children
    except FileNotFoundError:
        for pid in _all():
            with contextlib.suppress(OSError, ValueError, IndexError):
                found[pid] = int(read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1])
    return found


def _children(pid: int) -> list[int]:
    try:
        tasks = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 (called every 50 ms)
    except OSError:
        return []
    out: list[int] = []
    for task in tasks:
        path = f"/proc/{pid}/task/{task}/children"
        try:
            out += map(int, Path(path).read_text(encoding="ascii").split())
        except FileNotFoundError:
            if Path(path).parent.exists():
                raise
        except OSError:
            continue
    return out
