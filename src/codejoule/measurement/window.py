"""A block of code while its energy and time are measured."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter, time

from codejoule.config import UserError
from codejoule.domain import EnergyReading, EnergyScope
from codejoule.measurement.counter import Counter, measured_j
from codejoule.measurement.cpu import CpuCounters
from codejoule.measurement.jobs import Job, OtherJobs, Work
from codejoule.measurement.ledger import Entry, Ledger

AGREEMENT_J = 0.01
"""Rounding allowed between two readers of one counter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What a meter reads."""

    counter: Counter
    """The energy of the devices in scope, or of the GPUs among them."""
    ledger: Ledger | None = None
    """The ticks of the same counter, which then give the figures; the counter checks them."""
    cpu: CpuCounters | None = None
    """The CPU's counters, for a meter of GPUs."""
    others: OtherJobs | None = None
    """Which jobs work meanwhile."""

    @property
    def cpu_in_scope(self) -> bool:
        """Whether the CPU's energy is part of the figure."""
        return self.cpu is not None and self.cpu.in_scope

    @property
    def scope(self) -> EnergyScope:
        """Which devices a figure covers."""
        return EnergyScope.gpu_cpu if self.cpu_in_scope else self.counter.scope


class Window:
    """A window in progress; `reading` is there once its block has ended."""

    def __init__(self, name: str, key: str, sources: Sources) -> None:
        self.name = name
        self._key = key
        self._sources = sources
        self._jobs: list[Job] = []
        self._start_s = self._opened = self._closed = self._done = 0.0
        self._begun = (0.0, 0.0)
        """Between which moments the counter was read for its beginning."""
        self._marks_s: dict[str, float] = {}
        self._at_marks_j: dict[str, float] = {}
        self._counter_j: Mapping[str, float] = {}
        self._cpu_j: Mapping[str, float] = {}
        self._idle_power_w: float | None = None
        self._reading: EnergyReading | None = None
        self.pending = False
        """Whether its block has ended and its reading has still to be worked out."""

    def mark(self, name: str) -> None:
        """Note this moment under `name`; of several calls with one name the first counts."""
        if name in self._marks_s or self._closed:
            return
        moment = perf_counter()
        self._marks_s[name] = moment - self._opened
        read_j = dict(self._sources.counter.elapsed_j(self._key))
        if (cpu := self._sources.cpu) is not None and cpu.in_scope:
            read_j |= cpu.elapsed_j(self._key)
        self._at_marks_j[name] = sum(read_j.values())
        if self._sources.ledger is not None:
            self._sources.ledger.note(moment)

    @property
    def reading(self) -> EnergyReading:
        """Energy and time of the block; RuntimeError while it runs, or if it raised. Where a ledger
        answers, this waits for the tick after the block's end (about 0.1 s) and raises what went
        wrong during the block."""
        if self.pending:
            self._reading, self.pending = self._resolve(), False
        if self._reading is None:
            raise RuntimeError(f"window {self.name!r} has no reading: its block has not ended")
        return self._reading

    @property
    def settled(self) -> bool:
        """Whether its reading is there without waiting."""
        ledger = self._sources.ledger
        return not self.pending or ledger is None or ledger.covers(self._closed)

    @property
    def age_s(self) -> float:
        """Time since its opening [s]."""
        return perf_counter() - self._opened

    def open(self) -> None:
        """The block begins."""
        self._see_others()
        self._sources.counter.synchronize()
        asked = perf_counter()
        self._sources.counter.begin(self._key)
        if self._sources.cpu is not None:
            self._sources.cpu.begin(self._key)
        self._start_s = time()
        self._opened = perf_counter()
        self._begun = (asked, self._opened)
        if self._sources.ledger is not None:
            self._sources.ledger.note(self._opened)

    def _follow(self, closed: "Window") -> None:
        """The block begins where that of another window has ended."""
        self._opened = closed._closed
        self._begun = (closed._closed, closed._done)
        self._start_s = closed._start_s + closed._closed - closed._opened
        self._see_others()

    def cancel(self) -> None:
        """The block has raised. An error of a counter must not hide the block's own."""
        for counter in filter(None, (self._sources.counter, self._sources.cpu)):
            with suppress(UserError, OSError):
                counter.end(self._key)

    def close(self, idle_power_w: float | None, then: "Window | None" = None) -> None:
        """The block has ended, and that of `then` begins at the same moment. Without a ledger,
        raises what is wrong with its energy."""
        key = None if then is None else then._key
        self._sources.counter.synchronize()
        self._closed = perf_counter()
        if self._sources.cpu is not None:
            latency_s = self._closed - self._opened
            self._cpu_j = self._sources.cpu.measured_j(
                self._key, window=self.name, latency_s=latency_s, then=key
            )
        self._counter_j = self._sources.counter.end(self._key, key)
        self._done = perf_counter()
        self._see_others()
        self._idle_power_w = idle_power_w
        if then is not None:
            then._follow(self)
        if self._sources.ledger is None:
            self._reading = self._resolve()
            return
        self._sources.ledger.note(self._closed)
        self.pending = True

    def _see_others(self) -> None:
        if self._sources.others is not None:
            found = self._sources.others.since(self._start_s or time())
            self._jobs += [job for job in found if job.work is not Work.standby]

    def _concurrent(self) -> tuple[str, ...]:
        """The jobs that worked meanwhile, one of each process."""
        # Samples are judged on the CPU, which is outside of the GPUs' energy.
        unnoticed = Work.evaluation if self._sources.scope is EnergyScope.gpu else None
        jobs = {job.process: str(job) for job in self._jobs if job.work is not unnoticed}
        return tuple(jobs.values())

    def _entry(self, ledger: Ledger) -> Entry:
        """What the ledger says, once Zeus' window has been found to agree with it."""
        marks = {name: self._opened + after_s for name, after_s in self._marks_s.items()}
        entry = ledger.entry(self._opened, self._closed, marks)
        answered_s = (self._closed, self._done)
        for device, energy_j in self._counter_j.items():
            bounds_j = ledger.bounds_j(device, self._begun, answered_s)
            require_agreement(self.name, device, energy_j, bounds_j)
        return entry

    def _resolve(self) -> EnergyReading:
        sources, latency_s, entry = self._sources, self._closed - self._opened, None
        if sources.ledger is None:
            devices_j = measured_j(
                self._counter_j,
                source=sources.counter.source,
                window=self.name,
                latency_s=latency_s,
            )
            at_marks_j = {name: j for name, j in self._at_marks_j.items() if j > 0}
        else:
            entry = self._entry(sources.ledger)
            devices_j = dict(entry.by_device_j)
            at_marks_j = {
                name: j + self._at_marks_j[name]
                for name, j in entry.at_marks_j.items()
                if name in self._at_marks_j
            }
        if sources.cpu_in_scope:
            devices_j |= self._cpu_j
        energy_j = sum(devices_j.values())
        net_j = None
        # Idle power is the GPUs': a CPU is never idle while this process runs.
        if self._idle_power_w is not None and not (sources.cpu_in_scope or math.isnan(energy_j)):
            net_j = energy_j - self._idle_power_w * latency_s
        # Zeus says 0 for a window in which a card's counter has not ticked; its energy is not
        # known.
        zeus_known = entry is not None and all(j > 0 for j in self._counter_j.values())
        return EnergyReading(
            name=self.name,
            source=sources.counter.source,
            scope=sources.scope,
            start_s=self._start_s,
            latency_s=latency_s,
            energy_j=energy_j,
            energy_net_j=net_j,
            energy_by_device_j=devices_j,
            # Their counters are everybody's: what several jobs took is no job's figure.
            energy_out_of_scope_j={} if sources.cpu_in_scope or self._jobs else self._cpu_j,
            marks_s=dict(self._marks_s),
            energy_at_marks_j=at_marks_j,
            uncertainty_j=entry.uncertainty_j if entry else None,
            ticks=entry.ticks if entry else None,
            integrated_j=(entry.integrated_j or None) if entry else None,
            zeus_j=(sum(self._counter_j.values()) or None) if zeus_known else None,
            concurrent=self._concurrent(),
            doubts=entry.doubts if entry else (),
        )


def require_agreement(
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
