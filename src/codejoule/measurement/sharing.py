"""The energy of judging, divided among the samples judged."""

import math
from collections.abc import Sequence

from codejoule.domain import EnergyReading, EnergySource


def share_evaluation_energy(
    reading: EnergyReading | None, cpu_s: Sequence[float], *, watts_per_core: float
) -> tuple[list[float | None], EnergySource]:
    """Energy of each sample's evaluation [J], and how it was obtained.

    `reading` is the window around judging the samples, `cpu_s` the CPU time of each sample's
    processes [s]. A measured window (RAPL) is divided in proportion to CPU time, evenly if
    none used any, and the shares add up to it: they are allocated, and hold whatever else
    the processor did meanwhile. Otherwise (no reading, or an estimate, whose window saw this
    process only and not the sandbox's) a sample's energy is its CPU time x `watts_per_core`.
    It is None for a sample that ran on no CPU time (it never started, or was lost with its
    sandbox) and for a window in which the counter did not tick. Raises ValueError for a CPU
    time that is negative or not a number.
    """
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
