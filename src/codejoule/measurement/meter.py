"""Energy and time around a block."""

import logging
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from time import perf_counter, sleep, time
from types import TracebackType
from typing import Self

from codejoule.config import ConfigError, UserError
from codejoule.domain import EnergyReading, EnergyScope, EnergySource
from codejoule.measurement.beside import Beside
from codejoule.measurement.cooling import Cooling, CoolingLimits, cool_down
from codejoule.measurement.counter import Counter, measured_j
from codejoule.measurement.jobs import Job, OtherJobs, Work
from codejoule.measurement.ledger import Entry, Ledger
from codejoule.measurement.sampler import PowerSample, PowerSampler

logger = logging.getLogger(__name__)

IDLE_STEP_S = 0.5
"""Idle power is compared between spans of this length."""

AGREEMENT_J = 0.01
"""Rounding allowed between two readers of one counter."""


class Window:
    """A window in progress; `reading` is there once its block has ended."""

    def __init__(
        self,
        counter: Counter,
        ledger: Ledger | None,
        beside: Beside | None,
        others: OtherJobs | None,
        name: str,
        key: str,
    ) -> None:
        self.name = name
        self._counter = counter
        self._ledger = ledger
        self._beside = beside
        self._others = others
        self._jobs: list[Job] = []
        self._key = key
        self._start_s = 0.0
        self._asked = 0.0
        self._opened = 0.0
        self._closed = 0.0
        self._marks_s: dict[str, float] = {}
        self._energy_at_marks_j: dict[str, float] = {}
        self._beside_at_marks_j: dict[str, float] = {}
        self._beside_j: Mapping[str, float] = {}
        self._idle_power_w: float | None = None
        self._pending: tuple[Mapping[str, float], float] | None = None
        self._reading: EnergyReading | None = None

    def mark(self, name: str) -> None:
        """Note this moment under `name`; of several calls with one name the first counts."""
        if name in self._marks_s or self._closed:
            return
        moment = perf_counter()
        self._marks_s[name] = moment - self._opened
        if self._beside is not None and self._beside.in_scope:
            self._beside_at_marks_j[name] = sum(self._beside.elapsed_j(self._key).values())
        if self._ledger is not None:
            self._ledger.note(moment)
            return
        energy_j = sum(self._counter.elapsed_j(self._key).values())
        if energy_j > 0:
            self._energy_at_marks_j[name] = energy_j

    @property
    def reading(self) -> EnergyReading:
        """Energy and time of the block; RuntimeError while it runs, or if it raised.

        Where a ledger answers, this waits for the tick after the block's end (about 0.1 s) and
        raises what went wrong during the block.
        """
        if self._reading is None and self._pending is not None:
            self._resolve(*self._pending)
        if self._reading is None:
            raise RuntimeError(f"window {self.name!r} has no reading: its block has not ended")
        return self._reading

    def _open(self) -> None:
        self._see_others()
        self._counter.synchronize()
        self._asked = perf_counter()
        self._counter.begin(self._key)
        if self._beside is not None:
            self._beside.begin(self._key)
        self._start_s = time()
        self._opened = perf_counter()
        if self._ledger is not None:
            self._ledger.note(self._opened)

    def _see_others(self) -> None:
        if self._others is not None:
            self._jobs += self._others.since(self._start_s or time())

    def _concurrent(self, scope: EnergyScope) -> tuple[str, ...]:
        """The jobs that worked meanwhile, one of each process."""
        # Samples are judged on the CPU, which is outside of the GPUs' energy.
        unnoticed = Work.evaluation if scope is EnergyScope.gpu else None
        jobs = {job.process: str(job) for job in self._jobs if job.work is not unnoticed}
        return tuple(jobs.values())

    def _close(self, idle_power_w: float | None) -> None:
        self._counter.synchronize()
        self._closed = perf_counter()
        if self._beside is not None:
            self._beside_j = self._beside.end(
                self._key, window=self.name, latency_s=self._closed - self._opened
            )
        by_device_j = dict(self._counter.end(self._key))
        self._see_others()
        self._idle_power_w = idle_power_w
        if self._ledger is not None:
            self._ledger.note(self._closed)
            self._pending = (by_device_j, perf_counter())
            return
        latency_s = self._closed - self._opened
        by_device_j = measured_j(by_device_j, window=self.name, latency_s=latency_s)
        self._reading = self._read(by_device_j, self._energy_at_marks_j)

    def _resolve(self, by_counter_j: Mapping[str, float], done: float) -> None:
        assert self._ledger is not None
        marks = {name: self._opened + after_s for name, after_s in self._marks_s.items()}
        entry = self._ledger.entry(self._opened, self._closed, marks)
        for device, energy_j in by_counter_j.items():
            bounds_j = self._ledger.bounds_j(
                device, (self._asked, self._opened), (self._closed, done)
            )
            _require_agreement(self.name, device, energy_j, bounds_j)
        at_marks_j = dict(entry.at_marks_j)
        for name, beside_j in self._beside_at_marks_j.items():
            if name in at_marks_j:
                at_marks_j[name] += beside_j
        self._reading = self._read(entry.by_device_j, at_marks_j, entry)
        self._pending = None

    def _read(
        self,
        by_device_j: Mapping[str, float],
        at_marks_j: Mapping[str, float],
        entry: Entry | None = None,
    ) -> EnergyReading:
        latency_s = self._closed - self._opened
        scope, devices_j, beside_j = self._counter.scope, dict(by_device_j), self._beside_j
        if self._beside is not None and self._beside.in_scope:
            scope, devices_j, beside_j = EnergyScope.gpu_cpu, {**devices_j, **beside_j}, {}
        energy_j = sum(devices_j.values())
        net_j = None
        # Idle power is the GPUs': a CPU is never idle while this process runs.
        if (
            self._idle_power_w is not None
            and scope is not EnergyScope.gpu_cpu
            and not math.isnan(energy_j)
        ):
            net_j = energy_j - self._idle_power_w * latency_s
        return EnergyReading(
            name=self.name,
            source=self._counter.source,
            scope=scope,
            start_s=self._start_s,
            latency_s=latency_s,
            energy_j=energy_j,
            energy_net_j=net_j,
            energy_by_device_j=devices_j,
            energy_beside_j=dict(beside_j),
            marks_s=dict(self._marks_s),
            energy_at_marks_j=dict(at_marks_j),
            uncertainty_j=entry.uncertainty_j if entry else None,
            ticks=entry.ticks if entry else None,
            integrated_j=(entry.integrated_j or None) if entry else None,
            concurrent=self._concurrent(scope),
        )


def _require_agreement(
    window: str, device: str, energy_j: float, bounds_j: tuple[float, float]
) -> None:
    """Zeus' window must be the difference of two values that the ledger saw the counter take."""
    low_j, high_j = bounds_j
    if not low_j - AGREEMENT_J <= energy_j <= high_j + AGREEMENT_J:
        raise UserError(
            f"Zeus' begin/end window around {window!r} has {energy_j:.2f} J on {device}, but the "
            f"ticks of the same counter allow {low_j:.2f} to {high_j:.2f} J: one of them reads "
            "another GPU, or the counter was disturbed; run the job again, and report this if it "
            "recurs"
        )


def _named(devices: Collection[str]) -> str:
    return ", ".join(sorted(devices)) or "no GPU"


class Meter:
    """Measures blocks of code with one `Counter`, or with a `Ledger` of its ticks beside it.

    `beside` adds the CPU's counters to a meter of GPUs; `others` tells which jobs worked during a
    window; `recorded_idle_w` is the idle power of the GPUs that a replay plays [W].

    Windows may be nested or overlap. Without a ledger, a window too short for its counter to
    tick has an ``energy_j`` of NaN: nothing was measured, and 0 would say otherwise; with one it
    has an uncertainty. A counter that stands still for longer or goes backwards raises
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
        beside: Beside | None = None,
        others: OtherJobs | None = None,
        recorded_idle_w: float | None = None,
        cooling: CoolingLimits | None = None,
    ) -> None:
        self.source = counter.source
        in_scope = beside is not None and beside.in_scope
        self.scope = EnergyScope.gpu_cpu if in_scope else counter.scope
        self.devices = (*counter.devices, *(beside.devices if beside and in_scope else ()))
        self._counter = counter
        self._ledger = ledger
        self._beside = beside
        self._others = others
        self._recorded_idle_w = recorded_idle_w
        self._cooling = cooling
        self._idle_s = idle_s
        self._idle_tolerance = idle_tolerance
        self._idle_power_w: float | None = None
        self._keys = count()
        # The ledger's process samples power already.
        self._sampler = None if ledger else PowerSampler(counter.power_w, sample_period_s)
        self._wall_s = time() - perf_counter()
        self._timeline: list[PowerSample] = []
        self._kept_from = [0, 0]
        self._pending: list[Window] = []
        self._closed = False

    @contextmanager
    def window(self, name: str) -> Iterator[Window]:
        """Measure the block; a block that raises leaves no reading."""
        if self._closed:
            raise RuntimeError(f"window {name!r}: the meter is closed")
        key = f"{name}#{next(self._keys)}"
        window = Window(self._counter, self._ledger, self._beside, self._others, name, key)
        window._open()
        try:
            yield window
        except BaseException:
            self._counter.cancel(key)
            if self._beside is not None:
                self._beside.cancel(key)
            raise
        window._close(self._idle_power_w)
        self._pending = [w for w in self._pending if w._pending is not None]
        self._pending.append(window)

    def measure_idle(self) -> float | None:
        """Power of the idle GPUs [W]; later readings use it for ``energy_net_j``.

        With a ledger it is observed until two spans of 0.5 s in a row agree to within
        ``meter.idle_tolerance``, for ``meter.idle_s`` at most (then with a logged warning);
        without one, for ``meter.idle_s``. None, and no net energy, where it is undefined (a CPU's
        counter or estimate) or switched off with ``meter.idle_s=0``. A replay has the idle power
        that its recording states, or none: what it plays now is not this run's idling.
        """
        if self.scope is EnergyScope.cpu or self._idle_s == 0:
            return None
        if self.source is EnergySource.replay:
            self._idle_power_w = self._recorded_idle_w
            return self._idle_power_w
        idle_power_w = self._settled_w() if self._ledger else self._observed_w(self._idle_s)
        if math.isnan(idle_power_w):
            raise ConfigError(
                f"meter.idle_s={self._idle_s}: too short, the energy counter did not tick; "
                "use 1 or more, or 0 to do without net energy"
            )
        self._idle_power_w = idle_power_w
        return idle_power_w

    def _observed_w(self, seconds: float) -> float:
        with self.window("idle") as window:
            sleep(seconds)
        energy_j = window.reading.of_j("gpu")
        return math.nan if energy_j is None else energy_j / window.reading.latency_s

    def _settled_w(self) -> float:
        deadline = perf_counter() + self._idle_s
        step_s = min(IDLE_STEP_S, self._idle_s / 2)
        last_w = self._observed_w(step_s)
        while True:
            power_w = self._observed_w(step_s)
            if abs(power_w - last_w) <= self._idle_tolerance * power_w:
                return (power_w + last_w) / 2
            if perf_counter() >= deadline:
                logger.warning(
                    "idle power still changes (%.1f, then %.1f W) after meter.idle_s=%g s: the "
                    "last is taken. Something else may use the GPU, or it is still cooling: "
                    "raise meter.idle_s",
                    last_w,
                    power_w,
                    self._idle_s,
                )
                return power_w
            last_w = power_w

    def temperature_c(self) -> float | None:
        """Temperature of the warmest GPU now [degrees Celsius]; None where it is not known."""
        return self._ledger.temperature_c() if self._ledger else None

    def cool_down(self) -> Cooling | None:
        """Wait as ``meter.cooldown_s`` asks; None where it asks for nothing."""
        if self._cooling is None:
            return None
        return cool_down(
            self._cooling,
            observed_w=self._observed_w,
            temperature_c=self.temperature_c,
            tolerance=self._idle_tolerance,
        )

    def require_devices(self, gpus: Collection[int]) -> None:
        """UserError unless the GPUs that hold the model, by PyTorch's numbers, are those metered.

        A card in use that is not counted would be missing from the figures; one that is counted
        and not in use would add its idling. An estimate or a replay counts no GPU of the run.
        """
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

    def power_w(self) -> float | None:
        """Power of all devices in scope at the last sample [W]; None where there is none."""
        if self._ledger is None:
            return self._power_sampler.latest_w()
        gpus_w = self._ledger.latest_w()
        if self._beside is None or not self._beside.in_scope or gpus_w is None:
            return gpus_w
        cpu_w = self._beside.latest_w()
        return None if cpu_w is None else gpus_w + cpu_w

    def timeline(self) -> list[PowerSample]:
        """Power samples so far, in the order they came: a later call only adds to them."""
        if self._ledger is None:
            return self._power_sampler.samples()
        gpus = self._ledger.powers_w()
        beside = self._beside.samples() if self._beside else []
        self._timeline += [
            PowerSample(time_s=self._wall_s + time_s, device=device, power_w=power_w)
            for time_s, device, power_w in gpus[self._kept_from[0] :]
        ]
        self._timeline += beside[self._kept_from[1] :]
        self._kept_from = [len(gpus), len(beside)]
        return list(self._timeline)

    @property
    def _power_sampler(self) -> PowerSampler:
        assert self._sampler is not None
        return self._sampler

    def close(self) -> None:
        """Stop sampling. Readings and the timeline stay; further windows are refused."""
        if self._closed:
            return
        self._closed = True
        if self._beside is not None:
            self._beside.close()
        if self._ledger is None:
            self._power_sampler.stop()
            return
        for window in self._pending:
            # What is wrong with a window is raised where its reading is asked for.
            with suppress(UserError):
                _ = window.reading
        self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
