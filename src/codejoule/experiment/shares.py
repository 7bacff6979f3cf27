"""Whose energy was whose: the energy of windows, divided among the sequences that ran in them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

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

    by_sample_j: Mapping[tuple[str, int], tuple[float | None, float | None]]
    """Gross and net energy of each that ended, by task and sample [J]; None where it is not
    known."""
    kept: Mapping[int, EnergyReading]
    """The windows, by their numbers, without what was taken by sequences that were broken off."""
    lost_j: float
    """What those took [J]; 0 where there were none."""


def numbered(batches: Sequence[Batch]) -> list[Numbered]:
    """The windows in order, with their numbers."""
    return list(enumerate(sorted(batches, key=lambda entry: (entry.batch, entry.first))))


def in_order(batches: Sequence[Batch]) -> list[tuple[int, Batch, Completion]]:
    """Each completion with its window, in the order of the requests."""
    found: list[tuple[int, Batch, Completion]] = []
    places: list[int] = []
    for number, entry in numbered(batches):
        # What is decoded together comes in order.
        first = len(found)
        found += [(number, entry, completion) for completion in entry.completions]
        places += entry.slice.places if entry.slice else range(first, len(found))
    return [found[i] for i in np.argsort(places)]


def sessions(batches: Sequence[Batch]) -> list[list[Numbered]]:
    """The windows that were decoded in one go: of an engine that refills, those of each session;
    else each by itself."""
    found: list[list[Numbered]] = []
    for number, entry in numbered(batches):
        if entry.slice is None or entry.slice.begin_s == 0:
            found.append([])
        found[-1].append((number, entry))
    return found


def paces(entry: Batch) -> tuple[Pace, ...]:
    """When each of the sequences was decoded; empty where they began together."""
    return tuple(c.pace for c in entry.completions if c.pace is not None)


def opens(entry: Batch) -> bool:
    """Whether decoding began with this window."""
    return entry.slice is None or entry.slice.begin_s == 0


def shares_of(session: Sequence[Numbered]) -> Shares:
    """Divide the energy of windows that were decoded in one go. A sequence that had not ended when
    a session did was broken off: its share was spent for nothing, and is in no window."""
    (number, entry), *_ = session
    completions = [c for _, each in session for c in each.completions]
    slices = [each.slice for _, each in session if each.slice is not None]
    if not slices:
        return Shares(
            by_sample_j=_by_sample(completions, [_of_batch(entry)], [entry.reading]),
            kept={number: entry.reading},
            lost_j=0.0,
        )
    broken = slices[-1].running
    told = prefill_part(entry.reading.energy_at_marks_j, entry.reading.marks_s) is not None
    shares = attribute_slices(
        [_slice(each, told=told) for _, each in session],
        prompt_tokens=[
            *(c.prompt_tokens for c in completions),
            *(r.prompt_tokens for r in broken),
        ],
        paces=[
            *(c.pace for c in completions if c.pace is not None),
            *(r.pace for r in broken),
        ],
    )
    lost_j = shares[:, len(completions) :].sum(axis=1)
    readings = [each.reading for _, each in session]
    return Shares(
        by_sample_j=_by_sample(completions, shares[:, : len(completions)].tolist(), readings),
        kept={
            number: _less(each.reading, lost)
            for (number, each), lost in zip(session, lost_j, strict=True)
        },
        lost_j=float(lost_j.sum()),
    )


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


def _by_sample(
    completions: Sequence[Completion],
    shares: Sequence[Sequence[float]],
    readings: Sequence[EnergyReading],
) -> dict[tuple[str, int], tuple[float | None, float | None]]:
    """Net energy in the proportion of gross: idle power is nobody's in particular."""
    nets = [
        math.nan if reading.energy_net_j is None else reading.energy_net_j / reading.energy_j
        for reading in readings
    ]
    found = {}
    for i, completion in enumerate(completions):
        parts = [(row[i], net) for row, net in zip(shares, nets, strict=True) if row[i] != 0]
        gross_j, net_j = sum(j for j, _ in parts), sum(j * net for j, net in parts)
        found[completion.task_id, completion.sample] = (
            None if math.isnan(gross_j) else gross_j,
            None if math.isnan(net_j) else net_j,
        )
    return found


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
    sizes = [len(entry.completions) for entry in batches if entry.slice is not None]
    if not sizes:
        return None
    requests, at_once = sum(map(len, plan.batches)), plan.experiment.batch.size
    held = float(np.median(sizes)) / plan.window_tasks
    size = int(plan.window_tasks * 2 ** max(0, round(math.log2(held))))
    while at_once > 1 and size < _APART * at_once and requests >= 2 * size * FEWEST_WINDOWS:
        size *= 2
    return size
