"""The CPU's energy: its own counters (RAPL), found through Zeus, or an estimate from its time."""

import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from threading import Lock
from time import perf_counter, process_time

from codejoule.config import UserError
from codejoule.domain import EnergyReading, EnergyScope, EnergySource
from codejoule.measurement.compat import CounterFile, rapl_files
from codejoule.measurement.counter import CumulativeCounter, PowerSampler, measured_j

logger = logging.getLogger(__name__)

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


CPU_SAMPLE_PERIOD_S = 1.0
"""How often the CPU's power is sampled beside GPUs: for the timeline, and so that no wrap-around is
missed."""


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
    return _look()[0]


def rapl_counter() -> CumulativeCounter:
    """Energy of every CPU package and its memory; UserError where `rapl_status` says no. It covers
    whole packages: everything that runs on them and their idle power."""
    status, zones = _look()
    if not status.readable:
        raise UserError(f"{status.problem}; {status.fix}")

    def read_j() -> Mapping[str, float]:
        return {zone.device: zone.read_j() for zone in zones}

    return CumulativeCounter(read_j, source=EnergySource.rapl, scope=EnergyScope.cpu)


def _look() -> tuple[RaplStatus, list[_Zone]]:
    try:
        zones = _zones()
        stuck = _stuck(zones)
    except (OSError, ValueError) as error:
        return _missing(f"RAPL counters cannot be read: {error}", _OTHER_MACHINE), []
    except _RaplMissingError as missing:
        return _missing(*missing.args), []
    # Some processors show a memory counter that never moves: it is left out, by name.
    packages = [device for device in stuck if device.startswith("cpu")]
    if packages:
        problem = f"RAPL counter of {packages[0]} stands still, as in virtual machines"
        return _missing(problem, _OTHER_MACHINE), []
    zones = [zone for zone in zones if zone.device not in stuck]
    return RaplStatus(readable=True, devices=tuple(zone.device for zone in zones)), zones


def _missing(problem: str, fix: str) -> RaplStatus:
    return RaplStatus(readable=False, problem=problem, fix=fix)


def _stuck(zones: Sequence[_Zone]) -> list[str]:
    """Devices whose counter does not advance within 0.25 s."""
    before_j = {zone.device: zone.read_j() for zone in zones}
    deadline_s = perf_counter() + 0.25
    waiting = list(zones)
    while waiting and perf_counter() < deadline_s:
        time.sleep(0.005)
        waiting = [zone for zone in waiting if zone.read_j() == before_j[zone.device]]
    return [zone.device for zone in waiting]


_OTHER_MACHINE = "use a machine that shows them (most virtual machines do not)"
_DRIVER = (
    "on bare metal load the driver (sudo modprobe intel_rapl_msr, for Intel and AMD alike); "
    "most virtual machines have no RAPL"
)


class _RaplMissingError(Exception):
    """What is missing, and how to get it."""


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
            "sudo chmod -R a+r /sys/devices/virtual/powercap/intel-rapl (until the next boot; for "
            "good there is a udev rule in codejoule's documentation, page How energy is measured), "
            "or give Python CAP_DAC_READ_SEARCH",
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


class CpuCounters(CumulativeCounter):
    """Energy of CPU packages and their memory in a meter of GPUs. `in_scope` says that it is
    part of the figure asked for (``meter.scope=gpu+cpu``): a counter that fails is then an error.
    Otherwise its figures are an addition, which ends with a logged warning and is absent from then
    on."""

    def __init__(self, counter: CumulativeCounter, *, in_scope: bool) -> None:
        self.in_scope = in_scope
        self._lost = False
        self._read_own_j = counter.read_j
        super().__init__(self._guarded_j, source=counter.source, scope=counter.scope)
        self.power = PowerSampler(self.power_w, CPU_SAMPLE_PERIOD_S)

    def measured_j(
        self, key: str, *, window: str, latency_s: float, then: str | None = None
    ) -> Mapping[str, float]:
        """Close the window `key`, and open `then` with the same read; energy of each device [J]. In
        scope, a device that had no tick is NaN; otherwise it is absent."""
        try:
            energy_j = measured_j(
                self.end(key, then), source=self.source, window=window, latency_s=latency_s
            )
        except UserError as error:
            self._lose(error)
            return {}
        if self.in_scope:
            return energy_j
        return {device: j for device, j in energy_j.items() if not math.isnan(j)}

    def _guarded_j(self) -> Mapping[str, float]:
        try:
            return {} if self._lost else self._read_own_j()
        except (UserError, OSError) as error:
            self._lose(error)
            return {}

    def _lose(self, error: Exception) -> None:
        if self.in_scope:
            raise UserError(
                f"meter.scope=gpu+cpu: {error}. Run the job again, or choose meter.scope=auto"
            ) from error
        self._lost = True
        logger.warning("the CPU's energy is left out from here on: %s", error)


def cpu_time_counter(watts_per_core: float, *, processes: Sequence[int] = ()) -> CumulativeCounter:
    """CPU time of all threads of this process [s] x `watts_per_core` [W]. It is an estimate;
    docs/explanation/energy.md has the source. The time of `processes` and of their descendants
    counts, too: those of a server that works for this process, or this process itself, where what
    it starts counts."""
    listed = os.getpid() in processes

    def read_j() -> Mapping[str, float]:
        own_s = 0.0 if listed else process_time()
        return {"cpu": (own_s + _time_of(processes)) * watts_per_core}

    return CumulativeCounter(read_j, source=EnergySource.estimate, scope=EnergyScope.cpu)


def command_time_counter(watts_per_core: float) -> CumulativeCounter:
    """The same estimate for the commands that this process starts, with what those start. The time
    of this process itself is no part of it, nor that of processes that leave their parents
    (daemons)."""
    import psutil

    most_s = 0.0

    def read_j() -> Mapping[str, float]:
        nonlocal most_s
        # os.times() counts in steps of 10 ms, more than a command that sleeps takes.
        ended = getrusage(RUSAGE_CHILDREN)
        total_s = ended.ru_utime + ended.ru_stime
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                total_s += sum(process.cpu_times()[:4])
        # One that ends in between is in neither.
        most_s = max(most_s, total_s)
        return {"cpu": most_s * watts_per_core}

    return CumulativeCounter(read_j, source=EnergySource.estimate, scope=EnergyScope.cpu)


def _time_of(processes: Sequence[int]) -> float:
    """CPU time of other processes and of what they started [s]; UserError if one has ended: its
    time is gone with it."""
    import psutil

    total_s = 0.0
    for pid in processes:
        try:
            root = psutil.Process(pid)
            # Of those that have ended and been waited for, their parent has the time.
            total_s += sum(root.cpu_times()[:4])
            for process in root.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    total_s += sum(process.cpu_times()[:4])
        except psutil.Error as error:
            raise UserError(
                f"the server's process {pid} has ended ({error}), and its CPU time with it: the "
                "energy since then is not known. Start the server again and run the job again, "
                "which continues after its last window"
            ) from error
    return total_s


def share_evaluation_energy(
    reading: EnergyReading | None, cpu_s: Sequence[float], *, watts_per_core: float
) -> tuple[list[float | None], EnergySource]:
    """Energy of each sample's evaluation [J], and how it was obtained. `reading` is the window
    around judging the samples, `cpu_s` the CPU time of each sample's processes [s]. A measured
    window (RAPL) is divided in proportion to it, evenly if none used any. Otherwise (an estimate's
    window saw this process only and not the sandbox's) a sample's energy is its CPU time x
    `watts_per_core`. None for a sample that ran on no CPU time, and for a window in which the
    counter did not tick. ValueError for a CPU time that is negative or not a number."""
    for seconds in cpu_s:
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"cpu_s={seconds}: CPU time of a sample must be 0 or more [s]")
    if reading is None or reading.source is EnergySource.estimate:
        return [seconds * watts_per_core or None for seconds in cpu_s], EnergySource.estimate
    total_s = sum(cpu_s)
    if math.isnan(reading.energy_j):
        return [None for _ in cpu_s], reading.source
    if total_s == 0:
        return [reading.energy_j / len(cpu_s) for _ in cpu_s], reading.source
    return [reading.energy_j * (seconds / total_s) or None for seconds in cpu_s], reading.source
