"""Whose energy was whose: the energy of windows, divided among the sequences that ran in them."""

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codejoule.common.lazily import Lazily
from codejoule.common.packed import Packed
from codejoule.domain import (
    Completion,
    EnergyReading,
    Pace,
    Slice,
    attribute_energy,
    attribute_slices,
    prefill_part,
)
from codejoule.experiment.plan import FEWEST_WINDOWS, Plan
from codejoule.tracking.entries import Batch

_APART = 4
"""Blocks of so many times what runs at once share less than a quarter with their neighbours."""

Numbered = tuple[int, Batch]
"""A window with its number, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """What the sequences of some windows took."""

    gross_j: NDArray[np.float64]
    """Energy of each that ended, window by window [J]; NaN where it is not known."""
    net_j: NDArray[np.float64]
    """The same, idle power subtracted."""
    lost_j: NDArray[np.float64]
    """What was taken of each window by sequences that were broken off [J]; 0 where none were."""

    def kept(self, window: int, reading: EnergyReading) -> EnergyReading:
        """The reading of a window, by its place, without what was lost of it."""
        return _less(reading, float(self.lost_j[window]))


class Answer(NamedTuple):
    """What became of one request."""

    place: int
    """Its place among all that ended, window by window."""
    window: int
    """The number of the window in which it ended."""
    batch: Batch
    """That window."""
    completion: Completion
    """What was generated."""


def by_number(batches: Sequence[Batch]) -> Sequence[Batch]:
    """The windows in the order of their numbers, each read from `batches` when it is asked for."""
    numbers = np.array([(entry.batch, entry.first) for entry in batches]).reshape(-1, 2)
    order = np.lexsort((numbers[:, 1], numbers[:, 0]))
    return Lazily(len(order), lambda place: batches[order[place]])


def in_order(batches: Sequence[Batch]) -> Sequence[Answer]:
    """What became of each request, in the order of the requests."""
    places, begins = array("q"), array("q", [0])
    for entry in batches:
        # What is decoded together comes in order.
        end = begins[-1] + len(entry.completions)
        places.extend(entry.slice.places if entry.slice else range(begins[-1], end))
        begins.append(end)
    order = np.argsort(places).astype(np.uint32)

    def answer(number: int) -> Answer:
        place = int(order[number])
        window = bisect_right(begins, place) - 1
        entry = batches[window]
        return Answer(place, window, entry, entry.completions[place - begins[window]])

    return Lazily(len(places), answer)


def sessions(batches: Sequence[Batch]) -> Iterator[Sequence[Numbered]]:
    """The windows that were decoded in one go: of an engine that refills, those of each session;
    else each by itself."""

    def between(first: int, end: int) -> Sequence[Numbered]:
        return Lazily(end - first, lambda place: (first + place, batches[first + place]))

    first = 0
    for number, entry in enumerate(batches):
        if number and opens(entry):
            yield between(first, number)
            first = number
    if batches:
        yield between(first, len(batches))


def paces(entry: Batch) -> tuple[Pace, ...]:
    """When each of the sequences was decoded; empty where they began together."""
    return tuple(c.pace for c in entry.completions if c.pace is not None)


def opens(entry: Batch) -> bool:
    """Whether decoding began with this window."""
    return entry.slice is None or entry.slice.begin_s == 0


def paces_of(session: Sequence[Numbered]) -> Packed[Pace]:
    """The paces of all that ended in it."""
    return Packed(Pace, (pace for _, entry in session for pace in paces(entry)))


def shares_of(batches: Sequence[Batch]) -> Shares:
    """Divide the energy of windows. A sequence that had not ended when a session did was broken
    off: its share was spent for nothing, and is in no window."""
    gross_j, net_j, lost_j = array("d"), array("d"), array("d")
    for session in sessions(batches):
        ((_, entry),) = session[:1]
        if entry.slice is None:
            own_j = np.array(_of_batch(entry))
            gross_j.extend(own_j)
            net_j.extend(_net_j(own_j, entry.reading))
            lost_j.append(0.0)
        else:
            own = _of_session(session)
            gross_j.extend(own.gross_j)
            net_j.extend(own.net_j)
            lost_j.extend(own.lost_j)
    return Shares(gross_j=np.array(gross_j), net_j=np.array(net_j), lost_j=np.array(lost_j))


def _net_j(gross_j: NDArray[np.float64], reading: EnergyReading) -> NDArray[np.float64]:
    """Net energy in the proportion of gross: idle power is nobody's in particular."""
    if reading.energy_net_j is None:
        return np.where(gross_j == 0, 0.0, math.nan)
    return gross_j * (reading.energy_net_j / reading.energy_j)


def _of_session(session: Sequence[Numbered]) -> Shares:
    first, last = session[0][1], session[-1][1]
    broken = last.slice.running if last.slice else ()
    told = prefill_part(first.reading.energy_at_marks_j, first.reading.marks_s) is not None
    prompts = array("q", (c.prompt_tokens for _, entry in session for c in entry.completions))
    ended = len(prompts)
    prompts.extend(running.prompt_tokens for running in broken)
    shares = attribute_slices(
        (_slice(entry, told=told) for _, entry in session),
        prompt_tokens=prompts,
        paces=Packed(Pace, chain(paces_of(session), (running.pace for running in broken))),
    )
    gross_j, net_j, lost_j = np.zeros(len(prompts)), np.zeros(len(prompts)), array("d")
    for (_, entry), (ran, each_j) in zip(session, shares, strict=True):
        gross_j[ran] += each_j
        net_j[ran] += _net_j(each_j, entry.reading)
        of_broken_j = np.zeros(len(broken))
        of_broken_j[ran[ran >= ended] - ended] = each_j[ran >= ended]
        lost_j.append(of_broken_j.sum())
    return Shares(gross_j=gross_j[:ended], net_j=net_j[:ended], lost_j=np.array(lost_j))


def _of_batch(entry: Batch) -> Sequence[float]:
    """Each sequence's share of a batch; NaN for a window too short for its counter to tick."""
    reading = entry.reading
    if math.isnan(reading.energy_j):
        return (math.nan,) * len(entry.completions)
    prefill_j = prefill_part(reading.energy_at_marks_j, reading.marks_s)
    # An earlier version had windows of engines that refill, which were drained.
    spans = [(p.begin if prefill_j is None else p.first, p.end) for p in paces(entry)]
    return attribute_energy(
        reading.energy_j,
        prefill_j,
        prompt_tokens=[completion.prompt_tokens for completion in entry.completions],
        output_tokens=[completion.output_tokens for completion in entry.completions],
        spans=spans or None,
    )


def _slice(entry: Batch, *, told: bool) -> Slice:
    facts, reading = entry.slice, entry.reading
    assert facts is not None
    prefill_j = None
    if told:
        prefill_j = prefill_part(reading.energy_at_marks_j, reading.marks_s, opens=opens(entry))
    return Slice(energy_j=reading.energy_j, prefill_j=prefill_j, end=facts.end, end_s=facts.end_s)


def _less(reading: EnergyReading, lost_j: float) -> EnergyReading:
    """A window without a part of its energy, and of everything that grows with it."""
    if lost_j == 0 or math.isnan(lost_j):
        return reading
    kept = max(0.0, 1 - lost_j / reading.energy_j)

    def part(value: float | None) -> float | None:
        return None if value is None else value * kept

    return replace(
        reading,
        latency_s=reading.latency_s * kept,
        energy_j=reading.energy_j * kept or math.nan,
        energy_net_j=part(reading.energy_net_j),
        energy_by_device_j={name: j * kept for name, j in reading.energy_by_device_j.items()},
        energy_out_of_scope_j={name: j * kept for name, j in reading.energy_out_of_scope_j.items()},
        marks_s={name: s * kept for name, s in reading.marks_s.items()},
        energy_at_marks_j={name: j * kept for name, j in reading.energy_at_marks_j.items()},
        integrated_j=part(reading.integrated_j),
        zeus_j=part(reading.zeus_j),
    )


def block_tasks(plan: Plan, batches: Sequence[Batch]) -> int | None:
    """How many requests that follow one another are one observation; None for batches, which are
    that themselves. As many as end in a window; more, by powers of two, where sequences ended in
    bursts or too fast for the counter, so that windows held more, and where blocks that are longer
    than what runs at once are still enough: neighbours then have little in common. Blocks of runs
    that differ in this lie within one another."""
    if batches[0].slice is None:
        return None
    sizes = array("q", (len(entry.completions) for entry in batches))
    requests, at_once = plan.requests, plan.experiment.batch.size
    held = float(np.median(sizes)) / plan.window_tasks
    size = int(plan.window_tasks * 2 ** max(0, round(math.log2(held))))
    while at_once > 1 and size < _APART * at_once and requests >= 2 * size * FEWEST_WINDOWS:
        size *= 2
    return size
