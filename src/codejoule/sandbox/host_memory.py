"""How much memory is left for samples, on the machine and in the control groups around us."""

import contextlib
import resource
from pathlib import Path, PurePosixPath

_LIMITS = ("memory.max", "memory.high", "memory.limit_in_bytes")
_USAGES = ("memory.current", "memory.usage_in_bytes")
_KILLS = ("memory.events", "memory.oom_control")
"""Files of a group, of version 2 and of version 1; those of the other version are missing."""

_RECLAIMABLE = ("inactive_file", "active_file", "slab_reclaimable")
"""What the kernel gives up before it kills: version 1 has ``total_`` before the names."""

_LEAST_RESERVE_BYTES = 64 * 2**20
_MOST_RESERVE_BYTES = 2**30
_RESERVE_SHARE = 16


class HostMemory:
    """The memory of this machine and of the control groups that this process is in, of either
    version. `root` is the folder that holds ``proc`` and the groups' file systems."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._proc = root / "proc"
        chains = control_groups(root)
        self._groups = [group for chain in chains for group in chain]
        # Workers may live in a group beside our own, whose kills the one above counts.
        self._near = [group for chain in chains for group in chain[:2]]

    def available_bytes(self) -> int:
        """What samples may still take before something has to be killed, a reserve left aside;
        negative where less than the reserve is left."""
        facts = _table(self._proc / "meminfo")
        total, free = facts["MemTotal:"] * 1024, facts["MemAvailable:"] * 1024
        left = free - _reserve_bytes(total)
        return min([left, *(_room_bytes(group, left) for group in self._groups)])

    def kills(self) -> int:
        """How many processes the kernel has killed for memory so far, in our groups where they
        count that, else on the machine."""
        tables = [_table(group / name) for group in self._near for name in _KILLS]
        counts = [table["oom_kill"] for table in tables if "oom_kill" in table]
        return sum(counts) if counts else _table(self._proc / "vmstat").get("oom_kill", 0)

    def promised_bytes(self) -> int | None:
        """The most address space that a process is granted here, whatever limit it has of its
        own; None where that is not bounded."""
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        bounds = [] if hard == resource.RLIM_INFINITY else [hard]
        if _number(self._proc / "sys/vm/overcommit_memory") == 2:
            bounds.append(_table(self._proc / "meminfo")["CommitLimit:"] * 1024)
        return min(bounds, default=None)


def _room_bytes(group: Path, enough: int) -> int:
    """What is left of the group's limit; `enough` where it is at least that."""
    limits = [value for name in _LIMITS if (value := _number(group / name)) is not None]
    used = next((v for name in _USAGES if (v := _number(group / name)) is not None), 0)
    # The statistics of a large group take the kernel milliseconds.
    if not limits or min(limits) - used - _reserve_bytes(min(limits)) >= enough:
        return enough
    stat = _table(group / "memory.stat")
    reclaimable = sum(stat.get(f"total_{name}", stat.get(name, 0)) for name in _RECLAIMABLE)
    return min(limits) - max(0, used - reclaimable) - _reserve_bytes(min(limits))


def _reserve_bytes(total: int) -> int:
    """What is kept free: a process can take this much between two looks."""
    return min(max(total // _RESERVE_SHARE, _LEAST_RESERVE_BYTES), _MOST_RESERVE_BYTES)


def control_groups(root: Path = Path("/")) -> list[list[Path]]:
    """The folders of our control group and of those above it, for each hierarchy that may limit
    memory."""
    found = []
    groups = [line.split(":", 2) for line in _lines(root / "proc/self/cgroup")]
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        kind, options = after.split()[0], after.split()[-1].split(",")
        top, point = before.split()[3:5]
        for number, controllers, path in groups:
            if (kind == "cgroup2" and number == "0") or (
                kind == "cgroup" and "memory" in options and "memory" in controllers.split(",")
            ):
                below = _below(path, top)
                depths = range(len(below), -1, -1)
                found.append([root.joinpath(point.lstrip("/"), *below[:n]) for n in depths])
    return found


def _below(path: str, top: str) -> tuple[str, ...]:
    """The parts of a group's `path` under the group that is mounted. In a container the path
    may be that of the host, of which only the mounted group can be seen."""
    with contextlib.suppress(ValueError):
        parts = PurePosixPath(path).relative_to(top).parts
        if ".." not in parts:
            return parts
    return ()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    """What the file holds, None for ``max`` and for a file that is missing."""
    words = _lines(path)
    return int(words[0]) if words and words[0].isdigit() else None


def _table(path: Path) -> dict[str, int]:
    """First and second word of each line that has a number there."""
    rows = [line.split() for line in _lines(path)]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
