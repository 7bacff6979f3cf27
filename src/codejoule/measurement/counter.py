"""What a meter reads energy and power over time from."""

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter, time

from codejoule.config import UserError
from codejoule.domain import EnergyScope, EnergySource, PowerSample

logger = logging.getLogger(__name__)

TICK_LIMIT_S = 0.25
"""In a window longer than this the counter must have advanced [s]: NVML ticks every 0.1 s or
faster, RAPL every millisecond."""

SHORTEST_READ_SLICE_S = 0.1
"""A slice of a block is at least this long where a counter is read at its edges [s]: RAPL ticks
every millisecond, the CPU time of other processes every ten."""


class Counter:
    """Energy of some devices over windows that may overlap. By itself it reads nothing, for a meter
    whose ledger answers alone (a replay's, a command's). A meter calls `synchronize` before it
    takes the time at either edge of a window, so that the edge separates finished work from work
    not yet begun."""

    def __init__(
        self,
        devices: Sequence[str],
        *,
        source: EnergySource,
        scope: EnergyScope = EnergyScope.gpu,
    ) -> None:
        self.devices = tuple(devices)
        self.source = source
        self.scope = scope
        self.uuids: Mapping[str, str] = {}
        """UUID of each device that has one."""

    def synchronize(self) -> None:
        """Wait for the devices to finish what they were given."""

    def begin(self, key: str) -> None:
        """Open the window `key`."""

    def elapsed_j(self, key: str) -> Mapping[str, float]:
        """Energy of each device since `begin` [J]; empty where the source cannot resolve it."""
        return {}

    def end(self, key: str, then: str | None = None) -> Mapping[str, float]:
        """Close the window, and open the window `then` where one is named; energy of each device
        since `begin` [J]."""
        return {}

    def power_w(self) -> Mapping[str, float]:
        """Power of each device now, or since the last call [W]; empty where not known yet."""
        return {}


class CumulativeCounter(Counter):
    """A counter of any source that says how much energy has flowed up to now."""

    def __init__(
        self,
        read_j: Callable[[], Mapping[str, float]],
        *,
        source: EnergySource,
        scope: EnergyScope,
    ) -> None:
        now_s = perf_counter()
        self._last = {device: (now_j, now_s) for device, now_j in read_j().items()}
        super().__init__(tuple(self._last), source=source, scope=scope)
        self.read_j = read_j
        self._starts_j: dict[str, Mapping[str, float]] = {}

    def begin(self, key: str) -> None:
        """Open the window `key`."""
        self._starts_j[key] = self.read_j()

    def elapsed_j(self, key: str) -> Mapping[str, float]:
        """Energy of each device since `begin` [J]."""
        return _less(self.read_j(), self._starts_j[key])

    def end(self, key: str, then: str | None = None) -> Mapping[str, float]:
        """Close the window; energy of each device since `begin` [J]. The window `then` begins with
        the same read."""
        now_j = self.read_j()
        if then is not None:
            self._starts_j[then] = now_j
        return _less(now_j, self._starts_j.pop(key))

    def power_w(self) -> Mapping[str, float]:
        """Mean power of each device since the last call that gave it [W]; a device whose counter
        has not moved since is left out."""
        now_s = perf_counter()
        power_w = {}
        for device, now_j in self.read_j().items():
            last_j, last_s = self._last[device]
            if now_j != last_j and now_s > last_s:
                power_w[device] = (now_j - last_j) / (now_s - last_s)
                self._last[device] = now_j, now_s
        return power_w


def _less(now_j: Mapping[str, float], start_j: Mapping[str, float]) -> dict[str, float]:
    return {device: energy_j - start_j[device] for device, energy_j in now_j.items()}


def measured_j(
    by_device_j: Mapping[str, float], *, source: EnergySource, window: str, latency_s: float
) -> dict[str, float]:
    """Differences of counters over a window; NaN where that is no measurement. Raises UserError for
    a counter that went backwards, or that stood still for too long. An estimate stands still where
    its processes sleep."""
    for device, energy_j in by_device_j.items():
        if energy_j < 0:
            raise UserError(
                f"energy counter of {device} went backwards by {-energy_j:.3f} J during "
                f"{window!r}: the driver or the device was reset, so this window has no "
                "energy; run the job again"
            )
        ticks = source is not EnergySource.estimate
        if energy_j == 0 and ticks and latency_s > TICK_LIMIT_S:
            raise UserError(
                f"energy counter of {device} stood still for the {latency_s:.2f} s of "
                f"{window!r}: nothing was measured. Check the counter with `codejoule doctor`, "
                "or choose meter=cpu_estimate (a labelled estimate of the CPU alone)"
            )
    return {device: energy_j or math.nan for device, energy_j in by_device_j.items()}


class PowerSampler:
    """Calls `read_power_w` every `period_s` until stopped, from a light background thread. The
    samples serve the timeline; no energy is computed from them. A source that
    stops answering therefore ends the timeline with a logged warning; the windows read the counter
    themselves and raise their own error."""

    def __init__(self, read_power_w: Callable[[], Mapping[str, float]], period_s: float) -> None:
        self._read_power_w = read_power_w
        self._period_s = period_s
        self._samples: list[PowerSample] = []
        self._given = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="power-sampler", daemon=True)
        self._thread.start()

    def new(self) -> list[PowerSample]:
        """Samples since the last call, oldest first."""
        new = self._samples[self._given :]
        self._given += len(new)
        return new

    def stop(self) -> None:
        """End the thread; the samples stay."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            try:
                power_w = self._read_power_w()
            except Exception as error:
                logger.warning("power timeline ends here: %s", error)
                return
            now_s = time()
            for device, watts in power_w.items():
                self._samples.append(PowerSample(time_s=now_s, device=device, power_w=watts))
