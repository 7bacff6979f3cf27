"""A control group per worker, which counts CPU time and memory exactly."""

import contextlib
import os
import subprocess
import threading
import time
from functools import cache
from pathlib import Path

from codejoule.sandbox.held_folder import HeldFolder, abandoned_folders
from codejoule.sandbox.host_memory import control_groups

_PREFIX = "codejoule-worker-"
_LOCK = threading.Lock()
_RMDIR_S = 1.0


class Cgroup:
    """A group of version 2 of its own, empty until a process joins it through `procs`."""

    def __init__(self, base: Path) -> None:
        """Raises OSError where none can be made below `base`."""
        self._folder = HeldFolder(base, prefix=_PREFIX)
        self.path = self._folder.path
        self.procs = os.open(self.path / "cgroup.procs", os.O_WRONLY)
        """Open for writing: who writes "0" to it joins, also where it cannot be seen."""
        self._peak: int | None = None
        # Only with the controller, and where the peak can be reset (Linux 6.12).
        with contextlib.suppress(OSError):
            peak = os.open(self.path / "memory.peak", os.O_RDWR)
            try:
                os.write(peak, b"0")
                self._peak = os.dup(peak)
            finally:
                os.close(peak)
        self.measures_memory = self._peak is not None
        """Whether there is a `memory_peak_bytes`."""

    def start(self) -> float:
        """Begin to watch for a new peak; returns `cpu_s`."""
        if self._peak is not None:
            os.write(self._peak, b"0")
        return self.cpu_s()

    def cpu_s(self) -> float:
        """CPU time of all processes that ever were in the group [s]."""
        lines = (self.path / "cpu.stat").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("usage_usec ")) / 1e6

    def memory_peak_bytes(self) -> int:
        """Largest memory since `start`, the worker's own included."""
        assert self._peak is not None
        return int(os.pread(self._peak, 64, 0))

    def close(self) -> None:
        """Kill whoever is left in the group, and remove it."""
        os.close(self.procs)
        if self._peak is not None:
            os.close(self._peak)
        _remove(self.path)
        self._folder.release()


def open_cgroup() -> Cgroup | None:
    """A new group, None where this process may not make one."""
    with _LOCK:
        base = _find_base()
    with contextlib.suppress(OSError):
        return None if base is None else Cgroup(base)
    return None


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        (path / "cgroup.kill").write_text("1", encoding="ascii")
    until_s = time.monotonic() + _RMDIR_S
    while path.exists() and time.monotonic() < until_s:
        try:
            path.rmdir()
        except OSError:
            time.sleep(0.005)


@cache
def _find_base() -> Path | None:
    """The group below which ours can be made and joined: our own or the one above it, which
    may hand its controllers down, unless ours has limits that must hold for programs, too.
    Found by trying. What killed processes have left there is removed."""
    chains = [chain for chain in control_groups() if (chain[0] / "cgroup.controllers").exists()]
    if not chains:
        return None
    own, *above = chains[0]
    bases = [own] if _limits_memory(own) else [*above[:1], own]
    usable = [base for base in bases if _is_usable(base)]
    measuring = [base for base in usable if "memory" in _controllers_below(base)]
    base = next(iter([*measuring, *usable]), None)
    for left in abandoned_folders(base, prefix=_PREFIX) if base is not None else ():
        _remove(left)
    return base


def _limits_memory(group: Path) -> bool:
    limits = [group / "memory.max", group / "memory.high"]
    return any(file.exists() and file.read_text().strip() != "max" for file in limits)


def _controllers_below(base: Path) -> list[str]:
    return (base / "cgroup.subtree_control").read_text(encoding="ascii").split()


def _is_usable(base: Path) -> bool:
    try:
        group = Cgroup(base)
    except OSError:
        return False
    try:
        command = ["/bin/sh", "-c", 'echo 0 > "$1"/cgroup.procs', "sh", str(group.path)]
        joined = subprocess.run(command, capture_output=True, check=False)
        return joined.returncode == 0 and group.cpu_s() >= 0
    except (OSError, StopIteration):
        return False
    finally:
        group.close()
