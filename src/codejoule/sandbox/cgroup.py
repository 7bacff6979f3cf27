"""A control group per worker, which counts CPU time and memory exactly."""

import contextlib
import os
import subprocess
import threading
import time
from functools import cache
from pathlib import Path

from codejoule.sandbox.held_folder import HeldFolder, abandoned_folders

_PREFIX = "codejoule-worker-"
_LOCK = threading.Lock()
_RMDIR_S = 1.0


class Cgroup:
    """A group of version 2 of its own, empty until a process joins it through `procs`."""

    def __init__(self, base: Path) -> None:
        self._folder = HeldFolder(base, prefix=_PREFIX)
        self.path = path = self._folder.path
        self.procs = os.open(path / "cgroup.procs", os.O_WRONLY)
        """Open for writing: who writes "0" to it joins, also where it cannot be seen."""
        self._peak = _open_peak(path)
        self.measures_memory = self._peak is not None
        """Whether `memory_peak_bytes` counts from the last `start`."""

    def start(self) -> float:
        """Begin to watch for a new peak; returns `cpu_s`."""
        if self._peak is not None:
            os.write(self._peak, b"0")
        return self.cpu_s()

    def cpu_s(self) -> float:
        """CPU time of all processes that ever were in the group [s]."""
        text = (self.path / "cpu.stat").read_text(encoding="ascii")
        return int(_value_of("usage_usec", text)) / 1e6

    def memory_peak_bytes(self) -> int | None:
        """Largest memory since `start`, the worker's own included; None where the kernel does
        not measure it."""
        return None if self._peak is None else int(os.pread(self._peak, 64, 0))

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
    if base is None:
        return None
    try:
        return Cgroup(base)
    except OSError:
        return None


def _remove(path: Path) -> None:
    """Kill whoever is left in the group, and remove it."""
    with contextlib.suppress(OSError):
        (path / "cgroup.kill").write_text("1", encoding="ascii")
    until_s = time.monotonic() + _RMDIR_S
    while time.monotonic() < until_s:
        try:
            path.rmdir()
        except OSError:
            time.sleep(0.005)
        else:
            return


def _open_peak(path: Path) -> int | None:
    """``memory.peak``, if the controller is there and the peak can be reset (Linux 6.12)."""
    try:
        peak = os.open(path / "memory.peak", os.O_RDWR)
    except OSError:
        return None
    try:
        os.write(peak, b"0")
    except OSError:
        os.close(peak)
        return None
    return peak


@cache
def _find_base() -> Path | None:
    """The group below which ours can be made and joined: our own or the one above it, which
    may hand its controllers down, unless ours has limits that must hold for samples, too.
    Found by trying. What killed processes have left there is removed."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    points = [line.split()[4] for line in mounts if " - cgroup2 " in line]
    ours = [line[3:].lstrip("/") for line in groups if line.startswith("0::")]
    if not points or not ours:
        return None
    own = Path(points[0], ours[0])
    above = [own.parent] if own != Path(points[0]) and not _limits_memory(own) else []
    usable = [base for base in [*above, own] if _usable(base)]
    measuring = [base for base in usable if "memory" in _controllers_below(base)]
    base = next(iter([*measuring, *usable]), None)
    if base is not None:
        for group in abandoned_folders(base, prefix=_PREFIX):
            _remove(group)
    return base


def _limits_memory(group: Path) -> bool:
    limits = [group / "memory.max", group / "memory.high"]
    return any(file.exists() and file.read_text().strip() != "max" for file in limits)


def _controllers_below(base: Path) -> list[str]:
    return (base / "cgroup.subtree_control").read_text(encoding="ascii").split()


def _usable(base: Path) -> bool:
    try:
        folder = HeldFolder(base, prefix=_PREFIX)
    except OSError:
        return False
    trial = folder.path
    try:
        joined = subprocess.run(
            ["/bin/sh", "-c", 'echo 0 > "$1"/cgroup.procs', "sh", str(trial)],
            capture_output=True, check=False,
        )  # fmt: skip
        text = (trial / "cpu.stat").read_text(encoding="ascii")
        return joined.returncode == 0 and "usage_usec" in text
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            trial.rmdir()
        folder.release()


def _value_of(name: str, text: str) -> str:
    return next(line.split()[1] for line in text.splitlines() if line.startswith(name + " "))
