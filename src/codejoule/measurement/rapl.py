"""The CPU's own energy counters (RAPL), found through Zeus."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import perf_counter

from codejoule.config import UserError
from codejoule.domain import EnergyScope, EnergySource
from codejoule.measurement.compat import CounterFile, rapl_files
from codejoule.measurement.counter import CumulativeCounter

RAPL_DIRS = (
    Path("/sys/class/powercap/intel-rapl"),
    # Where Zeus' container recipe mounts the host's.
    Path("/zeus_sys/class/powercap/intel-rapl"),
)
"""Where Linux shows RAPL, for Intel and (since 5.8) AMD alike."""

MAX_ZONE_POWER_W = 2000.0
"""More than any package or its memory draws. A counter that falls back has wrapped around if
the energy this implies is below it, else it was reset."""

MAX_SAMPLE_PERIOD_S = 60.0
"""A wrap-around can be told only if the counter is read at least once per turn; a turn of
262 kJ lasts 131 s even at `MAX_ZONE_POWER_W`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaplStatus:
    """Whether the CPU's energy counters can be used."""

    readable: bool
    """Counters are there, may be read, and advance."""
    devices: tuple[str, ...] = ()
    """What they cover, e.g. ``cpu:0``, ``dram:0``."""
    problem: str | None = None
    """What is missing."""
    fix: str | None = None
    """How to get it."""


class _Zone:
    """One counter file, unwrapped. Zeus unwraps with a process per counter that re-imports
    the main module, outlives a killed parent and sees a wrap up to 1 s late (0.16); reading
    at least every minute makes that process unnecessary."""

    def __init__(self, device: str, file: CounterFile) -> None:
        self.device = device
        self._path, self._range_j = file
        self._lock = Lock()
        self._last_j, self._last_s = self._raw_j(), perf_counter()
        self._total_j = 0.0

    def _raw_j(self) -> float:
        return int(self._path.read_text()) / 1e6

    def read_j(self) -> float:
        """Energy since this object was made [J]."""
        with self._lock:
            raw_j, now_s = self._raw_j(), perf_counter()
            step_j = raw_j - self._last_j
            if step_j < 0:
                step_j += self._range_j
                limit_j = MAX_ZONE_POWER_W * (now_s - self._last_s + 0.01)
                if not 0 <= step_j <= limit_j:
                    raise UserError(
                        f"energy counter of {self.device} ({self._path}) went backwards, from "
                        f"{self._last_j:.3f} to {raw_j:.3f} J, and this is no wrap-around: it "
                        "was reset (a suspended machine, a reloaded driver); run the job again"
                    )
            self._last_j, self._last_s = raw_j, now_s
            self._total_j += step_j
            return self._total_j


def rapl_status() -> RaplStatus:
    """Look for counters of the CPU packages, read them, and see that they advance."""
    try:
        zones = _zones()
        stuck = _stuck(zones)
    except _RaplMissingError as missing:
        return RaplStatus(readable=False, problem=missing.problem, fix=missing.fix)
    except (OSError, ValueError) as error:
        return RaplStatus(
            readable=False, problem=f"RAPL counters cannot be read: {error}", fix=_OTHER_MACHINE
        )
    # Some processors show a memory counter that never moves: it is left out, by name.
    packages = [device for device in stuck if device.startswith("cpu")]
    if packages:
        return RaplStatus(
            readable=False,
            problem=f"RAPL counter of {packages[0]} stands still, as in virtual machines",
            fix=_OTHER_MACHINE,
        )
    devices = tuple(zone.device for zone in zones if zone.device not in stuck)
    return RaplStatus(readable=True, devices=devices)


def _stuck(zones: Sequence[_Zone]) -> list[str]:
    """Devices whose counter does not advance within 0.25 s."""
    before_j = {zone.device: zone.read_j() for zone in zones}
    deadline_s = perf_counter() + 0.25
    waiting = list(zones)
    while waiting and perf_counter() < deadline_s:
        time.sleep(0.005)
        waiting = [zone for zone in waiting if zone.read_j() == before_j[zone.device]]
    return [zone.device for zone in waiting]


def rapl_counter() -> CumulativeCounter:
    """Energy of every CPU package and its memory; UserError where `rapl_status` says no. It covers
    whole packages: everything that runs on them and their idle power."""
    status = rapl_status()
    if not status.readable:
        raise UserError(f"{status.problem}; {status.fix}")
    zones = [zone for zone in _zones() if zone.device in status.devices]

    def read_j() -> Mapping[str, float]:
        return {zone.device: zone.read_j() for zone in zones}

    return CumulativeCounter(read_j, source=EnergySource.rapl, scope=EnergyScope.cpu)


_OTHER_MACHINE = "use a machine that shows them (most virtual machines do not)"
_DRIVER = (
    "on bare metal load the driver (sudo modprobe intel_rapl_msr, for Intel and AMD alike); "
    "most virtual machines have no RAPL"
)


class _RaplMissingError(Exception):
    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix


def _zones() -> list[_Zone]:
    folder = next((folder for folder in RAPL_DIRS if folder.is_dir()), None)
    if folder is None:
        raise _RaplMissingError(f"no RAPL: {RAPL_DIRS[0]} does not exist", _DRIVER)
    from zeus.device.cpu.common import ZeusCPUNoPermissionError
    from zeus.device.cpu.rapl import ZeusRAPLFileInitError

    indices = sorted(
        int(zone.name.split(":")[1])
        for zone in folder.glob("intel-rapl:*")
        if (zone / "name").is_file()
        # Beside the packages, laptops show `psys`, which contains them: it would count twice.
        and (zone / "name").read_text().startswith("package")
    )
    if not indices:
        raise _RaplMissingError(f"{folder} holds no CPU package", _DRIVER)
    try:
        files = [rapl_files(index, folder) for index in indices]
    except ZeusCPUNoPermissionError:
        raise _RaplMissingError(
            f"RAPL counters in {folder} are there, but only root may read them",
            "sudo chmod -R a+r /sys/devices/virtual/powercap/intel-rapl (until the next boot; "
            "docs/energy.md has a udev rule), or give Python CAP_DAC_READ_SEARCH",
        ) from None
    except ZeusRAPLFileInitError as error:
        raise _RaplMissingError(
            f"RAPL counters in {folder} are incomplete: {error}", _DRIVER
        ) from None
    zones: list[_Zone] = []
    for index, (package, memory) in zip(indices, files, strict=True):
        zones.append(_Zone(f"cpu:{index}", package))
        if memory is not None:
            zones.append(_Zone(f"dram:{index}", memory))
    return zones
