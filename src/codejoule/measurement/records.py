"""What the sampler writes down: one fixed-size record per observation."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Kind(IntEnum):
    """What a record holds in ``value``. A recording may have others, of which nothing is made."""

    tick = 1
    """Energy counter after a step [J]; ``before_s`` is the start of the last read without it."""
    still = 2
    """Energy counter that has not moved since the last record of it [J]."""
    power = 3
    """Instantaneous power [W]."""
    temperature = 7
    """Temperature of the chip [degrees Celsius]."""
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
