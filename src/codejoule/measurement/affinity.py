"""Keeping the sampler off the core that decodes."""

import os
from collections.abc import Callable
from pathlib import Path


class Affinity:
    """Moves the threads of this process away from the core of another's main thread. The scheduler
    does not do so by itself everywhere: on a virtual machine whose cores share no cache that it
    knows of, a thread stays where it was woken (on an H200's host the sampler was found on the
    decoding thread's core at 41 of 48 looks). With a single core nothing is changed."""

    def __init__(self, owner: int, *, core_of: Callable[[int], int | None] | None = None) -> None:
        self._owner = owner
        self._core_of = core_of or _core_of
        self._allowed = os.sched_getaffinity(0)
        self._left: int | None = None

    def __call__(self) -> None:
        """Look where the owner runs, and leave that core (and its sibling, if others remain)."""
        core = self._core_of(self._owner)
        if core is None or core == self._left:
            return
        self._left = core
        free = self._allowed - _siblings(core) or self._allowed - {core}
        for task in os.listdir("/proc/self/task") if free else ():  # noqa: PTH208
            os.sched_setaffinity(int(task), free)


def _core_of(pid: int) -> int | None:
    """Core on which the main thread of a process was last; None where that is not told."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[36])
    except (OSError, IndexError, ValueError):
        return None


def _siblings(core: int) -> set[int]:
    """Hardware threads of the same physical core."""
    listed = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    try:
        parts = [part.partition("-") for part in listed.read_text().strip().split(",")]
    except OSError:
        return {core}
    ranges = [range(int(first), int(last or first) + 1) for first, _, last in parts]
    return {core, *(number for each in ranges for number in each)}
