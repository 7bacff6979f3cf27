"""What a meter needs of a source of energy."""

import math
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Protocol

from codejoule.config import UserError
from codejoule.domain import EnergyScope, EnergySource

TICK_LIMIT_S = 0.25
"""A window longer than this must have seen its counter advance: NVML ticks every 0.1 s or
faster, RAPL every millisecond."""


class Counter(Protocol):
    """Energy of some devices over windows that may overlap.

    A meter calls `synchronize` before it takes the time at either edge of a window, so that
    the edge separates finished work from work not yet begun.
    """

    source: EnergySource
    scope: EnergyScope
    devices: tuple[str, ...]

    def synchronize(self) -> None:
        """Wait for the devices to finish what they were given."""

    def begin(self, key: str) -> None:
        """Open the window `key`."""

    def elapsed_j(self, key: str) -> Mapping[str, float]:
        """Energy of each device since `begin` [J]; empty where the source cannot resolve it."""

    def end(self, key: str) -> Mapping[str, float]:
        """Close the window; energy of each device since `begin` [J]."""

    def cancel(self, key: str) -> None:
        """Forget the window."""

    def power_w(self) -> Mapping[str, float]:
        """Power of each device now, or since the last call [W]; empty where not known yet."""


class CumulativeCounter:
    """A `Counter` over anything that can say how much energy has flowed up to now."""

    def __init__(
        self,
        read_j: Callable[[], Mapping[str, float]],
        *,
        source: EnergySource,
        scope: EnergyScope,
    ) -> None:
        self._read_j = read_j
        self.source = source
        self.scope = scope
        self._starts_j: dict[str, Mapping[str, float]] = {}
        now_s = perf_counter()
        self._last = {device: (now_j, now_s) for device, now_j in read_j().items()}
        self.devices = tuple(self._last)

    def synchronize(self) -> None:
        """Nothing to wait for: the CPU's work is done when the call returns."""

    def begin(self, key: str) -> None:
        """Open the window `key`."""
        self._starts_j[key] = self._read_j()

    def elapsed_j(self, key: str) -> Mapping[str, float]:
        """Energy of each device since `begin` [J]."""
        start_j = self._starts_j[key]
        return {device: now - start_j[device] for device, now in self._read_j().items()}

    def end(self, key: str) -> Mapping[str, float]:
        """Close the window; energy of each device since `begin` [J]."""
        energy_j = self.elapsed_j(key)
        del self._starts_j[key]
        return energy_j

    def cancel(self, key: str) -> None:
        """Forget the window."""
        self._starts_j.pop(key, None)

    def power_w(self) -> Mapping[str, float]:
        """Mean power of each device since the last call that gave it [W]; a device whose counter
        has not moved since is left out."""
        now_s = perf_counter()
        power_w = {}
        for device, now_j in self._read_j().items():
            last_j, last_s = self._last[device]
            if now_j != last_j and now_s > last_s:
                power_w[device] = (now_j - last_j) / (now_s - last_s)
                self._last[device] = now_j, now_s
        return power_w


def measured_j(
    by_device_j: Mapping[str, float], *, window: str, latency_s: float
) -> dict[str, float]:
    """Differences of counters over a window, with what is not a measurement made NaN.

    UserError for a counter that went backwards, or that stood still for longer than any does.
    """
    checked = dict(by_device_j)
    for device, energy_j in by_device_j.items():
        if energy_j < 0:
            raise UserError(
                f"energy counter of {device} went backwards by {-energy_j:.3f} J during "
                f"{window!r}: the driver or the device was reset, so this window has no "
                "energy; run the job again"
            )
        if energy_j == 0 and latency_s > TICK_LIMIT_S:
            raise UserError(
                f"energy counter of {device} stood still for the {latency_s:.2f} s of "
                f"{window!r}: nothing was measured. Check the counter with `codejoule doctor`, "
                "or choose meter=cpu_estimate (a labelled estimate of the CPU alone)"
            )
        if energy_j == 0:
            checked[device] = math.nan
    return checked


class NullCounter:
    """A `Counter` of GPUs without readings of its own, for a meter whose ledger answers alone: of a
    replay, or of a command, which has ended when its window does."""

    scope = EnergyScope.gpu

    def __init__(self, devices: Sequence[str], *, source: EnergySource) -> None:
        self.devices = tuple(devices)
        self.source = source

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def begin(self, key: str) -> None:
        """Nothing."""

    def elapsed_j(self, key: str) -> Mapping[str, float]:
        """Nothing."""
        return {}

    end = elapsed_j
    cancel = begin

    def power_w(self) -> Mapping[str, float]:
        """Nothing."""
        return {}
