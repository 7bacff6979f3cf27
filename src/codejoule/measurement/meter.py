"""Energy and time of blocks of code, idle power, and power over time."""

import logging
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from time import perf_counter, sleep, time
from typing import Self

from codejoule.common.progress import doing
from codejoule.config import ConfigError, UserError
from codejoule.domain import Cooling, EnergyScope, EnergySource, IdleSource, PowerSample
from codejoule.measurement.cooling import cool_down, settle
from codejoule.measurement.counter import SHORTEST_READ_SLICE_S, Counter, PowerSampler
from codejoule.measurement.cpu import CpuCounters
from codejoule.measurement.jobs import OtherJobs
from codejoule.measurement.ledger import SHORTEST_SLICE_S, Ledger
from codejoule.measurement.window import Sources, Window

logger = logging.getLogger(__name__)

IDLE_STEP_S = 0.5
"""Idle power is compared between spans of this length."""


class Meter:
    """Measures blocks of code with one `Counter`, or with a `Ledger` of its ticks beside it.

    `cpu` adds the CPU's counters to a meter of GPUs; `others` tells which jobs worked during a
    window; `recorded_idle_w` is the idle power of the GPUs that a replay plays [W].

    Windows may be nested or overlap. Without a ledger, a window too short for its counter to
    tick has an ``energy_j`` of NaN, because nothing was measured. With a ledger it has an
    uncertainty. A counter that stands still for longer or goes backwards raises
    `UserError`.
    """

    def __init__(
        self,
        counter: Counter,
        *,
        sample_period_s: float,
        idle_s: float,
        idle_tolerance: float = 0.02,
        ledger: Ledger | None = None,
        cpu: CpuCounters | None = None,
        others: OtherJobs | None = None,
        recorded_idle_w: float | None = None,
        cooldown_s: float = 0.0,
        cooldown_temperature_c: float | None = None,
    ) -> None:
        self._sources = Sources(counter=counter, ledger=ledger, cpu=cpu, others=others)
        self.source = counter.source
        self.scope = self._sources.scope
        self.devices = (*counter.devices, *(cpu.devices if cpu and cpu.in_scope else ()))
        self.uuids = tuple(counter.uuids.values())
        """UUIDs of the GPUs whose counters give the energy."""
        self._ledger = ledger
        self._cpu = cpu
        self._recorded_idle_w = recorded_idle_w
        self._cooldown_s = cooldown_s
        self._cooldown_temperature_c = cooldown_temperature_c
        self._idle_s = idle_s
        self._idle_tolerance = idle_tolerance
        self._idle_power_w: float | None = None
        self.idle_source: IdleSource | None = None
        """How `measure_idle` came to its figure; None where there is none."""
        self._keys = count()
        # The ledger's process samples power already.
        self._sampler = None if ledger else PowerSampler(counter.power_w, sample_period_s)
        self._wall_s = time() - perf_counter()
        self._pending: list[Window] = []
        self._closed = False

    @property
    def shortest_s(self) -> float:
        """The shortest slice of a block whose energy the source tells well [s]."""
        return SHORTEST_SLICE_S if self._ledger else SHORTEST_READ_SLICE_S

    @contextmanager
    def window(self, name: str) -> Iterator[Window]:
        """Measure the block; a block that raises leaves no reading."""
        with self.slices(name) as slices:
            yield slices.window

    @contextmanager
    def slices(self, name: str) -> Iterator["Slices"]:
        """Measure the block in windows that follow one another; the last ends with the block. One
        that raises leaves no reading of its last."""
        if self._closed:
            raise RuntimeError(f"window {name!r}: the meter is closed")
        slices = Slices(self, name)
        try:
            yield slices
        except BaseException:
            slices.window.cancel()
            raise
        self._close(slices.window)

    def _make(self, name: str) -> Window:
        return Window(name, f"{name}#{next(self._keys)}", self._sources)

    def _close(self, window: Window, then: Window | None = None) -> None:
        window.close(self._idle_power_w, then)
        self._pending = [*(w for w in self._pending if w.pending), window]

    def measure_idle(self, earlier_w: float | None = None) -> float | None:
        """Power of the idle GPUs [W]; later readings use it for ``energy_net_j``. It is observed
        until two spans of 0.5 s agree to within ``meter.idle_tolerance``, for ``meter.idle_s`` at
        most (then with a logged warning). `earlier_w`, measured before on the same GPUs, is taken
        where the first two spans together agree with it as well. None, and no net energy, for a
        CPU, where it is undefined, and with ``meter.idle_s=0``. A replay has what its recording
        states, or none."""
        if self.scope is EnergyScope.cpu or self._idle_s == 0:
            return None
        if self.source is EnergySource.replay:
            self._idle_power_w = self._recorded_idle_w
            self.idle_source = None if self._idle_power_w is None else IdleSource.recorded
            return self._idle_power_w
        doing("measuring idle power", f"at most {self._idle_s:g} s")
        if self._ledger:
            idle_power_w, source = self._settled_w(earlier_w)
        else:
            idle_power_w, source = self._observed_w(self._idle_s), IdleSource.measured
        if math.isnan(idle_power_w):
            raise ConfigError(
                f"meter.idle_s={self._idle_s}: too short, the energy counter did not tick; "
                "use 1 or more, or 0 to do without net energy"
            )
        self._idle_power_w, self.idle_source = idle_power_w, source
        return idle_power_w

    def _observed_w(self, seconds: float) -> float:
        with self.window("idle") as window:
            sleep(seconds)
        energy_j = window.reading.of_j("gpu")
        return math.nan if energy_j is None else energy_j / window.reading.latency_s

    def _settled_w(self, earlier_w: float | None) -> tuple[float, IdleSource]:
        step_s = min(IDLE_STEP_S, self._idle_s / 2)
        seen_w: list[float] = []
        if earlier_w is not None:
            seen_w = [self._observed_w(step_s), self._observed_w(step_s)]
            if abs(sum(seen_w) / 2 - earlier_w) <= self._idle_tolerance * earlier_w:
                return earlier_w, IdleSource.taken_over
        last_w, power_w, settled = settle(
            # What has been seen is not observed again.
            lambda seconds: seen_w.pop(0) if seen_w else self._observed_w(seconds),
            longest_s=self._idle_s,
            step_s=step_s,
            tolerance=self._idle_tolerance,
        )
        if settled:
            return (power_w + last_w) / 2, IdleSource.measured
        logger.warning(
            "idle power still changes (%.1f, then %.1f W) after meter.idle_s=%g s: the "
            "last is taken. Something else may use the GPU, or it is still cooling: "
            "raise meter.idle_s",
            last_w,
            power_w,
            self._idle_s,
        )
        return power_w, IdleSource.unsettled

    def temperature_c(self) -> float | None:
        """Temperature of the warmest GPU now [degrees Celsius]; None where it is not known."""
        return self._ledger.temperature_c() if self._ledger else None

    def cool_down(self) -> Cooling | None:
        """Wait as ``meter.cooldown_s`` asks; None where it asks for nothing."""
        if self._cooldown_s == 0:
            return None
        return cool_down(
            longest_s=self._cooldown_s,
            wanted_c=self._cooldown_temperature_c,
            observed_w=self._observed_w,
            temperature_c=self.temperature_c,
            tolerance=self._idle_tolerance,
        )

    def require_devices(self, gpus: Collection[int]) -> None:
        """UserError unless the GPUs that hold the model, by PyTorch's numbers, are those metered. A
        card in use that is not counted would be missing from the figures; one that is counted and
        not in use would add its idling. An estimate or a replay counts no GPU of the run."""
        if self.source is not EnergySource.nvml:
            return
        metered = {device for device in self.devices if device.startswith("gpu:")}
        holding = {f"gpu:{number}" for number in gpus}
        if holding == metered:
            return
        raise UserError(
            f"the model lies on {_named(holding)}, but energy is metered on {_named(metered)}: "
            + (
                f"what {_named(holding - metered)} takes would be missing from the figures"
                if holding - metered
                else f"the idling of {_named(metered - holding)} would be in the figures"
            )
            + ". Place the model on the GPUs that the run was planned for, or hide the others "
            "(CUDA_VISIBLE_DEVICES)"
        )

    def new_power(self) -> list[PowerSample]:
        """Power samples since the last call, in the order they came from each kind of device."""
        if self._sampler is not None:
            return self._sampler.new()
        assert self._ledger is not None
        gpus = [
            PowerSample(time_s=self._wall_s + time_s, device=device, power_w=power_w)
            for time_s, device, power_w in self._ledger.new_powers_w()
        ]
        return gpus + (self._cpu.power.new() if self._cpu else [])

    def close(self) -> None:
        """Stop sampling. Readings and the timeline stay; further windows are refused."""
        if self._closed:
            return
        self._closed = True
        if self._cpu is not None:
            self._cpu.power.stop()
        if self._sampler is not None:
            self._sampler.stop()
        if self._ledger is None:
            return
        for window in self._pending:
            # What is wrong with a window is raised where its reading is asked for.
            with suppress(UserError):
                _ = window.reading
        self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Slices:
    """Windows around one block, each of which begins where the one before has ended: together they
    are the block."""

    def __init__(self, meter: Meter, name: str) -> None:
        self._meter = meter
        self._name = name
        self.window = meter._make(name)
        """The one that is open; the last once the block has ended."""
        self.window.open()

    def mark(self, name: str) -> None:
        """Note this moment in the window that is open."""
        self.window.mark(name)

    def cut(self) -> Window:
        """End the window that is open, and open the next; gives the one that has ended."""
        ended, self.window = self.window, self._meter._make(self._name)
        self._meter._close(ended, self.window)
        return ended


def _named(devices: Collection[str]) -> str:
    return ", ".join(sorted(devices)) or "no GPU"
