"""The CPU's counters in a meter of GPUs."""

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from codejoule.config import UserError
from codejoule.measurement.counter import CumulativeCounter, PowerSampler, measured_j

logger = logging.getLogger(__name__)

SAMPLE_PERIOD_S = 1.0
"""How often the CPU's power is sampled: for the timeline, and so that no wrap-around is missed."""


class CpuCounters:
    """Energy of CPU packages and their memory over a meter's windows. `in_scope` says that it is
    part of the figure asked for (``meter.scope=gpu+cpu``): a counter that fails is then an error.
    Otherwise its figures are an addition, which ends with a logged warning and is absent from then
    on."""

    def __init__(self, counter: CumulativeCounter, *, in_scope: bool) -> None:
        self.in_scope = in_scope
        self.devices = counter.devices
        self.power = PowerSampler(counter.power_w, SAMPLE_PERIOD_S)
        self._counter = counter
        self._lost = False

    def begin(self, key: str) -> None:
        """Open the window `key`."""
        with self._losing():
            if not self._lost:
                self._counter.begin(key)

    def elapsed_j(self, key: str) -> Mapping[str, float]:
        """Energy of each device since `begin` [J]; empty once lost."""
        energy_j: Mapping[str, float] = {}
        with self._losing():
            energy_j = {} if self._lost else self._counter.elapsed_j(key)
        return energy_j

    def end(self, key: str, *, window: str, latency_s: float) -> Mapping[str, float]:
        """Close the window; energy of each device [J]. In scope, a device that had no tick is
        NaN; otherwise it is absent."""
        energy_j: Mapping[str, float] = {}
        with self._losing():
            ended_j = {} if self._lost else self._counter.end(key)
            energy_j = measured_j(ended_j, window=window, latency_s=latency_s)
        if self.in_scope:
            return energy_j
        return {device: j for device, j in energy_j.items() if not math.isnan(j)}

    def cancel(self, key: str) -> None:
        """Forget the window."""
        self._counter.cancel(key)

    @contextmanager
    def _losing(self) -> Iterator[None]:
        try:
            yield
        except (UserError, OSError) as error:
            if not self.in_scope:
                self._lost = True
                logger.warning("the CPU's energy is left out from here on: %s", error)
                return
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"meter.scope=gpu+cpu: the CPU's energy counters cannot be read any more: {error}. "
                "Run the job again, or choose meter.scope=auto"
            ) from error
