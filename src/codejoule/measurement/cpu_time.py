"""The estimate for machines without counters: CPU time x watts per core."""

import math
from collections.abc import Mapping, Sequence
from time import process_time

from codejoule.config import UserError
from codejoule.domain import EnergyReading, EnergyScope, EnergySource
from codejoule.measurement.counter import CumulativeCounter


def cpu_time_counter(watts_per_core: float, *, processes: Sequence[int] = ()) -> CumulativeCounter:
    """CPU time of all threads of this process [s] x `watts_per_core` [W]: an estimate, for which
    docs/energy.md has the source. `processes` are others whose time counts too, that of their
    descendants with it: a server's, which works for this one."""

    def read_j() -> Mapping[str, float]:
        return {"cpu": (process_time() + _time_of(processes)) * watts_per_core}

    return CumulativeCounter(read_j, source=EnergySource.estimate, scope=EnergyScope.cpu)


def _time_of(processes: Sequence[int]) -> float:
    """CPU time of other processes and of what they started [s]; UserError if one has ended: its
    time is gone with it."""
    import psutil

    total_s = 0.0
    for pid in processes:
        try:
            root = psutil.Process(pid)
            for process in (root, *root.children(recursive=True)):
                # Of those that have ended and been waited for, their parent has the time.
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
