"""What the sampler writes down: one fixed-size record per observation."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Kind(IntEnum):
    """What a record holds in ``value``."""

    tick = 1
    """Energy counter after a step [J]; ``before_s`` is the start of the last read without it."""
    still = 2
    """Energy counter that has not moved since the last record of it [J]."""
    power = 3
    """Instantaneous power [W]."""
    usage = 4
    """Power by NVML's older query, which averages over up to a second [W]."""
    sm_clock = 5
    """Clock of the multiprocessors [MHz]."""
    memory_clock = 6
    """Clock of the memory [MHz]."""
    temperature = 7
    """Temperature of the chip [degrees Celsius]."""
    throttle = 8
    """NVML's bit mask of reasons for a lowered clock."""
    utilisation = 9
    """Share of time with a kernel running [percent]."""
    foreign = 10
    """Process id of a process on the device that does not belong to the run."""
    suspended = 11
    """Time that the machine has spent suspended since sampling began [s]; device 0."""


RECORD = np.dtype(
    [
        ("kind", "<u2"),
        ("device", "<u2"),
        ("unused", "<u4"),
        ("before_s", "<f8"),
        ("after_s", "<f8"),
        ("value", "<f8"),
    ]
)
"""Layout of a record: 32 bytes. Times are CLOCK_MONOTONIC [s], before and after the query;
``device`` counts the devices sampled, from 0."""

Records = NDArray[np.void]
