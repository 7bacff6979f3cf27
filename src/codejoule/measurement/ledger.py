"""The ledger: it keeps every tick of the energy counters and works out windows from them."""

import logging
import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic, sleep

import numpy as np

from codejoule.config import UserError
from codejoule.domain import Doubt
from codejoule.measurement.curve import (
    COUNTER_LAG_S,
    Point,
    distinct_ticks,
    energy_at,
    tick_times,
)
from codejoule.measurement.feed import Feed, Kind

logger = logging.getLogger(__name__)

SHORTEST_SLICE_S = 1.0
"""A slice of a block is at least this long [s]; the error of a shorter one would be above 1 to 2 %
(docs/lab-notes/ledger.md)."""

PAUSE_S = 0.005
"""Pause between two looks for new records [s]."""

AROUND_TICKS = 48
"""Ticks on either side of a moment whose reads are compared to time the ticks."""

STILL_LIMIT_S = 1.0
"""A counter without a tick for longer stands still: NVML ticks every 0.1 s or faster."""

SILENCE_LIMIT_S = 10.0
"""A device without any record for longer hangs in the driver."""

MAX_POWER_W = 5000.0
"""More than any one card draws: a step that needs it is a jump of the counter."""

RESOLUTION_J = 1e-3
"""NVML counts whole millijoules, so less than this between two moments is no measurement [J]."""

EDGE_REACH_S = 2.0
"""Edges further than this from a moment do not change its energy [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Energy of one window."""

    by_device_j: Mapping[str, float]
    """Energy of each device [J]; NaN where the window is too short to tell it from nothing."""
    uncertainty_j: float
    """Standard uncertainty of their sum [J]."""
    ticks: int
    """Ticks inside the window, of the device with the fewest."""
    at_marks_j: Mapping[str, float]
    """Energy of all devices up to each mark [J]; one that is not resolved is left out."""
    integrated_j: float | None
    """Instantaneous power integrated over the window [J]; None where it was not sampled."""
    doubts: tuple[Doubt, ...]
    """What the sampler saw that disturbs the energy."""


@dataclass(slots=True)
class _Book:
    """What is known of one device."""

    before_s: list[float] = field(default_factory=list)
    after_s: list[float] = field(default_factory=list)
    energy_j: list[float] = field(default_factory=list)
    power_s: list[float] = field(default_factory=list)
    power_w: list[float] = field(default_factory=list)
    temperature_c: float | None = None
    heard_s: float = field(default_factory=monotonic)
    still_s: float = 0.0
    slowed_s: list[tuple[float, bool]] = field(default_factory=list)
    moments_s: list[float] = field(default_factory=list)
    points: dict[float, Point] = field(default_factory=dict)

    def covers(self, moment_s: float) -> bool:
        # A read shows its tick up to 40 ms late and never early, so `before_s` is on the safe side.
        return bool(self.before_s) and self.before_s[-1] - COUNTER_LAG_S >= moment_s

    def slowed(self, opened_s: float, closed_s: float) -> bool:
        first = bisect_right(self.slowed_s, (opened_s, True)) - 1
        last = bisect_right(self.slowed_s, (closed_s, True))
        return any(slowed for _, slowed in self.slowed_s[max(0, first) : last])

    def ticks_between(self, opened_s: float, closed_s: float) -> int:
        return bisect_right(self.after_s, closed_s) - bisect_right(self.after_s, opened_s)


class Ledger:
    """Keeps the ticks of some devices and gives the energy of windows between noted moments. The
    energy at a moment is worked out once and then stands. Windows that share their moments
    therefore add up exactly, and windows in a row add up to the one around them. UserError is
    raised for a window during which a counter stood still or jumped, the sampler died, the machine
    was suspended, or another process used a device (`warn_of_foreign`: that is logged once)."""

    def __init__(self, feed: Feed, *, warn_of_foreign: bool = False) -> None:
        self.devices = feed.devices
        self._feed = feed
        self._warn_of_foreign = warn_of_foreign
        self._warned: set[tuple[str, int]] = set()
        self._books = [_Book() for _ in feed.devices]
        self._edges_s: list[float] = []
        self._faults: list[tuple[float, str]] = []
        self._foreign: dict[tuple[str, int], tuple[float, float]] = {}
        self._powers_w: list[tuple[float, str, float]] = []
        try:
            self._wait(lambda: all(len(book.after_s) >= 2 for book in self._books))
        except BaseException:
            feed.close()
            raise

    def note(self, moment_s: float) -> None:
        """Power may jump at this moment: an edge or a mark of a window [s, monotonic]."""
        insort(self._edges_s, moment_s)

    def entry(self, opened_s: float, closed_s: float, marks_s: Mapping[str, float]) -> Entry:
        """Energy from `opened_s` to `closed_s`; waits for the tick that covers its end."""
        self._wait(lambda: all(book.covers(closed_s) for book in self._books), opened_s)
        self._raise_faults(opened_s, closed_s)
        by_device_j: dict[str, float] = {}
        variance, at_marks_j = 0.0, dict.fromkeys(marks_s, 0.0)
        for device, book in zip(self.devices, self._books, strict=True):
            start, end = self._point(device, book, opened_s), self._point(device, book, closed_s)
            energy_j = end.energy_j - start.energy_j
            by_device_j[device] = energy_j if energy_j >= RESOLUTION_J else math.nan
            variance += start.uncertainty_j**2 + end.uncertainty_j**2
            for name, moment_s in marks_s.items():
                at_marks_j[name] += self._point(device, book, moment_s).energy_j - start.energy_j
        parts_j = [
            integrate_w(book.power_s, book.power_w, opened_s, closed_s) for book in self._books
        ]
        return Entry(
            by_device_j=by_device_j,
            uncertainty_j=variance**0.5,
            ticks=min(book.ticks_between(opened_s, closed_s) for book in self._books),
            at_marks_j={name: j for name, j in at_marks_j.items() if j >= RESOLUTION_J},
            integrated_j=None if None in parts_j else sum(j for j in parts_j if j is not None),
            doubts=self._doubts(opened_s, closed_s),
        )

    def _doubts(self, opened_s: float, closed_s: float) -> tuple[Doubt, ...]:
        seen = {
            Doubt.throttled: any(book.slowed(opened_s, closed_s) for book in self._books),
            Doubt.shared_gpu: any(True for _ in self._intruders(opened_s, closed_s)),
        }
        return tuple(doubt for doubt, holds in seen.items() if holds)

    def covers(self, moment_s: float) -> bool:
        """Whether the energy at this moment can be told without waiting."""
        self._pull()
        return all(book.covers(moment_s) for book in self._books)

    def bounds_j(
        self, device: str, opening_s: tuple[float, float], closing_s: tuple[float, float]
    ) -> tuple[float, float]:
        """Least and greatest difference of two reads of the counter, made during these spans."""
        book = self._books[self.devices.index(device)]

        def value(times_s: list[float], moment_s: float) -> float:
            return book.energy_j[max(0, bisect_right(times_s, moment_s) - 1)]

        return (
            value(book.after_s, closing_s[0]) - value(book.before_s, opening_s[1]),
            value(book.before_s, closing_s[1]) - value(book.after_s, opening_s[0]),
        )

    def new_powers_w(self) -> list[tuple[float, str, float]]:
        """Samples of instantaneous power since the last call, in the order they came: monotonic
        time [s], device, power [W]."""
        self._pull()
        new, self._powers_w = self._powers_w, []
        return new

    def temperature_c(self) -> float | None:
        """Temperature of the warmest device now [degrees Celsius]; None where one gives none."""
        self._pull()
        known_c = [book.temperature_c for book in self._books if book.temperature_c is not None]
        return max(known_c) if len(known_c) == len(self._books) else None

    def close(self) -> None:
        """End sampling; windows that the ticks already cover can still be read."""
        self._feed.close()

    def _wait(self, done: Callable[[], bool], opened_s: float = -np.inf) -> None:
        self._pull()
        while not done():
            self._raise_faults(opened_s, np.inf)
            silent = [
                device
                for device, book in zip(self.devices, self._books, strict=True)
                if monotonic() - book.heard_s > SILENCE_LIMIT_S
            ]
            if silent:
                raise UserError(
                    f"the energy sampler has given no sign of {', '.join(silent)} for "
                    f"{SILENCE_LIMIT_S:.0f} s: the driver does not answer. See its log "
                    "(dmesg); a hung GPU needs a reset or a reboot"
                )
            sleep(PAUSE_S)
            self._pull()

    def _pull(self) -> None:
        records = self._feed.read()
        for number in np.unique(records["device"]):
            self._books[number].heard_s = monotonic()
        for kind, number, _, before_s, after_s, value in records.tolist():
            book, device = self._books[number], self.devices[number]
            if kind == Kind.tick:
                self._tick(device, book, before_s, after_s, value)
            elif kind == Kind.still:
                self._still(device, book, after_s)
            elif kind == Kind.power:
                book.power_s.append((before_s + after_s) / 2)
                book.power_w.append(value)
                self._powers_w.append((book.power_s[-1], device, value))
            elif kind == Kind.temperature:
                book.temperature_c = value
            elif kind == Kind.slowed:
                book.slowed_s.append((after_s, bool(value)))
            elif kind == Kind.foreign:
                first_s, _ = self._foreign.get((device, int(value)), (after_s, after_s))
                self._foreign[device, int(value)] = (first_s, after_s)
            elif kind == Kind.suspended and value > 0:
                self._fault(
                    after_s,
                    f"the machine was suspended for {value:.1f} s: clocks and counters do not "
                    "agree about that time, so this window has no energy; run the job again and "
                    "keep the machine awake",
                )

    def _fault(self, moment_s: float, what: str) -> None:
        self._faults.append((moment_s, what))

    def _tick(
        self, device: str, book: _Book, before_s: float, after_s: float, value: float
    ) -> None:
        if book.energy_j:
            step_j, length_s = value - book.energy_j[-1], after_s - book.before_s[-1]
            if step_j < 0:
                self._fault(
                    after_s,
                    f"energy counter of {device} went backwards by {-step_j:.3f} J: the driver or "
                    "the device was reset, so this window has no energy; run the job again",
                )
            elif step_j > MAX_POWER_W * (length_s + 0.1):
                self._fault(
                    after_s,
                    f"energy counter of {device} jumped forward by {step_j:.0f} J within "
                    f"{length_s:.2f} s, more than any card draws: the counter is not to be trusted "
                    "here; run the job again",
                )
        book.before_s.append(before_s)
        book.after_s.append(after_s)
        book.energy_j.append(value)

    def _still(self, device: str, book: _Book, now_s: float) -> None:
        since_s = book.after_s[-1] if book.after_s else (book.still_s or now_s)
        book.still_s = book.still_s or now_s
        if now_s - since_s > STILL_LIMIT_S:
            self._fault(
                now_s,
                f"energy counter of {device} stood still for {now_s - since_s:.1f} s: nothing was "
                "measured. Check the counter with `codejoule doctor`, or choose meter=cpu_estimate "
                "(a labelled estimate of the CPU alone)",
            )

    def _raise_faults(self, opened_s: float, closed_s: float) -> None:
        for moment_s, fault in self._faults:
            # A fault is seen up to some ticks after it began to spoil the curve.
            if opened_s - 1.0 <= moment_s <= closed_s + 2 * STILL_LIMIT_S:
                raise UserError(fault)
        for device, pid in self._intruders(opened_s, closed_s):
            if (device, pid) in self._warned:
                continue
            message = (
                f"process {pid}, which is not part of this run, uses {device}: NVML counts cards, "
                "so its energy would be in the figures. End it or choose another GPU "
                "(CUDA_VISIBLE_DEVICES), or set meter.on_busy_gpu=warn to measure nevertheless "
                "(right for a server on this GPU that is itself being measured)"
            )
            if not self._warn_of_foreign:
                raise UserError(message)
            self._warned.add((device, pid))
            logger.warning("%s", message)

    def _intruders(self, opened_s: float, closed_s: float) -> Iterator[tuple[str, int]]:
        """Devices and processes on them that are not part of the run."""
        for place, (first_s, last_s) in self._foreign.items():
            if first_s <= closed_s and last_s >= opened_s - 1.0:
                yield place

    def _point(self, device: str, book: _Book, moment_s: float) -> Point:
        """The curve at a moment, worked out once, and never below an earlier moment."""
        known = book.points.get(moment_s)
        if known is not None:
            return known
        here = bisect_left(book.after_s, moment_s + COUNTER_LAG_S)
        span = slice(max(0, here - AROUND_TICKS), here + AROUND_TICKS)
        times_s = tick_times(np.array(book.before_s[span]), np.array(book.after_s[span]))
        ticks = distinct_ticks(times_s - COUNTER_LAG_S, np.array(book.energy_j[span]))
        low = bisect_left(self._edges_s, moment_s - EDGE_REACH_S)
        high = bisect_right(self._edges_s, moment_s + EDGE_REACH_S)
        if moment_s < ticks.time_s[0]:
            raise UserError(
                f"a window opened {ticks.time_s[0] - moment_s:.2f} s before the first tick of "
                f"{device}: nothing is known of its beginning"
            )
        point = energy_at(moment_s, ticks, self._edges_s[low:high])
        place = bisect_left(book.moments_s, moment_s)
        energy_j = point.energy_j
        if place > 0:
            energy_j = max(energy_j, book.points[book.moments_s[place - 1]].energy_j)
        if place < len(book.moments_s):
            energy_j = min(energy_j, book.points[book.moments_s[place]].energy_j)
        point = Point(energy_j=energy_j, uncertainty_j=point.uncertainty_j)
        book.moments_s.insert(place, moment_s)
        book.points[moment_s] = point
        return point


def integrate_w(
    time_s: list[float], power_w: list[float], start_s: float, end_s: float
) -> float | None:
    """Sampled power over a span [J], each sample holding until the next; None where no sample
    is known at its start."""
    first = bisect_right(time_s, start_s) - 1
    if first < 0:
        return None
    last = bisect_right(time_s, end_s)
    knots = np.clip(np.array([*time_s[first:last], end_s]), start_s, end_s)
    return float((np.diff(knots) * np.array(power_w[first:last])).sum())
