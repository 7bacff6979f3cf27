"""The CPU's counters beside a meter of GPUs."""

import logging
import math
from collections.abc import Mapping

from codejoule.config import UserError
from codejoule.domain import PowerSample
from codejoule.measurement.counter import CumulativeCounter, measured_j
from codejoule.measurement.sampler import PowerSampler

logger = logging.getLogger(__name__)

SAMPLE_PERIOD_S = 1.0
"""How often the CPU's power is sampled: for the timeline, and so that no wrap-around is missed."""


class CpuCounters:
    """Energy of CPU packages and their memory over a meter's windows.

    `in_scope` says that it is part of the figure asked for (``meter.scope=gpu+cpu``): a counter
    that fails is then an error. Otherwise its figures are an addition, which ends with a logged
    warning and is absent from then on.
    """

    def __init__(self, counter: CumulativeCounter, *, in_scope: bool) -> None:
        self.in_scope = in_scope
        self.devices = counter.devices
        self._counter = counter
        self._lost = False
        self._sampler = PowerSampler(counter.power_w, SAMPLE_PERIOD_S)

    def begin(self, key: str) -> None:
        """Open the window `key`."""
        if not self._lost:
            try:
                self._counter.begin(key)
            except (UserError, OSError) as error:
                self._lose(error)

    def elapsed_j(self, key: str) -> Mapping[str, float]:
        """Energy of each device since `begin` [J]; empty once lost."""
        if self._lost:
            return {}
        try:
            return self._counter.elapsed_j(key)
        except (UserError, OSError) as error:
            self._lose(error)
            return {}

    def end(self, key: str, *, window: str, latency_s: float) -> Mapping[str, float]:
        """Close the window; energy of each device [J]. In scope, a device that had no tick is
        NaN; beside it, it is absent."""
        if self._lost:
            return {}
        try:
            energy_j = measured_j(self._counter.end(key), window=window, latency_s=latency_s)
        except (UserError, OSError) as error:
            self._lose(error)
            return {}
        if self.in_scope:
            return energy_j
        return {device: j for device, j in energy_j.items() if not math.isnan(j)}

    def cancel(self, key: str) -> None:
        """Forget the window."""
        self._counter.cancel(key)

    def samples(self) -> list[PowerSample]:
        """Every sample of power so far, oldest first."""
        return self._sampler.samples()

    def latest_w(self) -> float | None:
        """Power of all devices at the last sample [W]; None before the first."""
        return self._sampler.latest_w()

    def close(self) -> None:
        """Stop sampling."""
        self._sampler.stop()

    def _lose(self, error: UserError | OSError) -> None:
        if self.in_scope:
            if isinstance(error, UserError):
                raise error
            raise UserError(
                f"meter.scope=gpu+cpu: the CPU's energy counters cannot be read any more: {error}. "
                "Run the job again, or choose meter.scope=auto"
            ) from error
        self._lost = True
        logger.warning("the CPU's energy is left out from here on: %s", error)
