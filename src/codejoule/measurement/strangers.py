"""Processes on a GPU that do not belong to the run."""

from collections.abc import Sequence
from typing import Any


class Strangers:
    """Finds processes that compute on one device beside `owners` and their descendants."""

    def __init__(self, handle: Any, owners: Sequence[int]) -> None:
        self._handle = handle
        self._owners = tuple(owners)

    def __call__(self) -> list[int]:
        """Their process ids now; empty where the driver does not list processes."""
        import pynvml

        try:
            listed = pynvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except pynvml.NVMLError:
            return []
        pids = [process.pid for process in listed]
        if all(pid in self._owners for pid in pids):
            return []
        own = {member for owner in self._owners for member in family(owner)}
        return strangers_among(pids, own)


def family(owner: int) -> set[int]:
    """`owner` and its descendants, as process ids of this namespace."""
    import psutil

    try:
        children = psutil.Process(owner).children(recursive=True)
    except psutil.NoSuchProcess:
        return {owner}
    return {owner, *(child.pid for child in children)}


def strangers_among(listed: Sequence[int], own: set[int]) -> list[int]:
    """The ids in `listed` that are not our own.

    In a container the driver may list ids of the host, or 0, which cannot be matched with ours:
    if none matches, one of them is taken to be ours, and only the others are strangers.
    """
    import psutil

    others = [pid for pid in listed if pid not in own]
    if others and len(others) == len(listed):
        unknown = [pid for pid in others if pid == 0 or not psutil.pid_exists(pid)]
        if unknown:
            others.remove(unknown[0])
    return others
