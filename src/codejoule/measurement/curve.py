"""The curve of energy over time, from the ticks of a counter: pure arithmetic. A GPU's counter
advances in steps ("ticks", 0.1 s apart on Hopper), and a step holds all the energy since the last
one. The energy between two ticks has to be worked out. This module does so from the ticks around
it, and from a fact that only the meter knows: power may jump where a window opens, ends or is
marked, and it is mostly even elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COUNTER_LAG_S = 0.011
"""How long before a tick shows the energy in it ended [s]. Fitted on an H200 (driver 580.159),
where 6 to 15 ms do about equally well; it matters by itself times the jump of power at an edge."""

NEIGHBOURS = 3
"""Ticks on either side of a moment from which its energy is worked out."""

ACROSS_EDGE = 1e-4
"""Weight of "power stays as it was" across the edge of a window; it is 1 elsewhere."""

SAME_MOMENT_S = 3e-4
"""Edges nearer to each other than this count as one [s]: a window opens as another ends."""

CLEAR_EDGE = 0.08
"""Standard error of the place of an edge, in ticks, where whole ticks lie on both sides: the lag
and the slopes of power at a step (calibrated on a recording, docs/explanation/energy.md)."""

CLOCK_ERROR = 0.1
"""How early a tick may seem by the clock that was fitted to few of them, in ticks."""

PAUSE_S = 0.03
"""Edges nearer than this count as one for the uncertainty: the pause between two windows."""

CROWDED_EDGE = 12**-0.5
"""The same where another edge lies in the same tick or the next: the edge may be anywhere in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticks:
    """Steps of one energy counter, oldest first."""

    time_s: Floats
    """End of the span whose energy each step adds [s, monotonic clock], shape (ticks,)."""
    energy_j: Floats
    """The counter after it [J], shape (ticks,)."""


def distinct_ticks(time_s: Floats, energy_j: Floats) -> Ticks:
    """Ticks in order of time, at least `SAME_MOMENT_S` apart: of those seen together after a late
    read, the last. Times and the counter after each come in the order they were read."""
    ordered_s = np.maximum.accumulate(time_s)
    last = np.append(np.diff(ordered_s) > SAME_MOMENT_S, True)
    return Ticks(time_s=ordered_s[last], energy_j=energy_j[last])


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The curve at one moment."""

    energy_j: float
    """The counter's energy at that moment [J]."""
    uncertainty_j: float
    """Its standard uncertainty [J]."""


def tick_times(before_s: Floats, after_s: Floats, *, reach: int = 32) -> Floats:
    """Moments of the ticks [s], more exact than the reads that saw them.

    Each tick came between `before_s`, the start of the last read that still gave the old value,
    and `after_s`, the end of the first that gave the new one. `reach` ticks on either side are
    compared.

    A driver ticks by a clock of its own (an H200's stayed within 0.15 ms of a straight line for
    four minutes), whereas a read takes 3 to 40 ms and sees a tick late, never early. So the
    least late of the neighbouring reads show the clock. Only reads within half a period of the
    tick are used for that, because one that was held up longer does not say which turn of the clock
    it saw. It is given the last turn before its end that its neighbours leave. Where a counter
    ticks irregularly, the bounds that its own reads set hold.
    """
    if len(after_s) < 3:
        return np.array(after_s, dtype=float)
    period_s = float(np.median(np.diff(after_s)))
    sharp = np.flatnonzero(after_s - before_s < period_s / 2)
    if len(sharp) < 3:
        sharp = np.arange(len(after_s))
    since_s = after_s - after_s[sharp[0]]
    step_s = np.diff(since_s[sharp])
    if (np.diff(sharp) == 1).any():
        period_s = float(np.median(step_s[np.diff(sharp) == 1]))
    # The count goes from one tick to the next, so that an error of the period does not add up to
    # a whole turn.
    seen = np.concatenate([[0.0], np.cumsum(np.round(step_s / period_s))])
    period_s = _slope(seen, since_s[sharp], period_s)
    late_s = np.full(len(after_s) + 2 * reach, np.inf)
    late_s[reach + sharp] = since_s[sharp] - seen * period_s
    least_s = np.lib.stride_tricks.sliding_window_view(late_s, 2 * reach + 1).min(axis=1)
    least_s = np.where(np.isfinite(least_s), least_s, late_s.min())
    turn = np.floor((since_s - least_s) / period_s + CLOCK_ERROR)
    turn[sharp] = seen
    _keep_apart(turn, sharp)
    clock_s = after_s[sharp[0]] + turn * period_s + least_s
    times_s: Floats = np.clip(clock_s, before_s, after_s)
    return times_s


def _keep_apart(turn: Floats, sharp: NDArray[np.int_]) -> None:
    """Give each turn one tick at most: move those that are not `sharp` between those that are."""
    others = np.setdiff1d(np.arange(len(turn)), sharp)
    for here in others[others > 0]:
        if here - 1 in sharp:
            turn[here] = max(turn[here], turn[here - 1] + 1)
    for here in others[others < len(turn) - 1][::-1]:
        turn[here] = min(turn[here], turn[here + 1] - 1)


def _slope(turn: Floats, after_s: Floats, period_s: float) -> float:
    """Period by the least late tick of the first and of the last third."""
    third = max(1, len(turn) // 3)
    late_s = after_s - turn * period_s
    first = int(np.argmin(late_s[:third]))
    last = len(turn) - third + int(np.argmin(late_s[-third:]))
    turns = turn[last] - turn[first]
    return float((after_s[last] - after_s[first]) / turns) if turns > 0 else period_s


def energy_at(moment_s: float, ticks: Ticks, edges_s: Sequence[float] = ()) -> Point:
    """Energy of the counter at a moment between its ticks; ValueError outside of them.

    `edges_s` are moments at which power may jump: the edges and marks of all windows [s].

    Ticks and edges divide the neighbourhood into cells of constant power ``p``. Of all ``p`` that
    give every tick exactly its energy, the one with the least sum of squared differences
    between neighbouring cells is taken, a difference across an edge weighing `ACROSS_EDGE`.
    Without an edge nearby this is close to linear interpolation; with one, a tick that straddles
    it is divided as the whole ticks on both sides suggest.

    The uncertainty is tick length x change of power around the moment x the standard error of
    an edge's place in the tick (`CLEAR_EDGE`, or `CROWDED_EDGE`).
    """
    time_s = ticks.time_s
    if not time_s[0] <= moment_s <= time_s[-1]:
        raise ValueError(f"{moment_s} s is outside the ticks, {time_s[0]} to {time_s[-1]} s")
    after = max(1, int(np.searchsorted(time_s, moment_s)))
    low, high = max(0, after - 1 - NEIGHBOURS), min(len(time_s), after + NEIGHBOURS + 1)
    near_s, step_j = time_s[low:high], np.diff(ticks.energy_j[low:high])
    edges = _distinct([e for e in (*edges_s, moment_s) if near_s[0] < e < near_s[-1]])
    knots = np.unique(np.concatenate([near_s, edges]))
    power_w = _cell_power_w(knots, near_s, step_j, edges)
    inside = (knots[:-1] >= time_s[after - 1]) & (knots[:-1] < moment_s)
    length_s = np.minimum(knots[1:], moment_s) - knots[:-1]
    energy_j = float(ticks.energy_j[after - 1] + (power_w * length_s)[inside].sum())
    return Point(
        energy_j=energy_j,
        uncertainty_j=_uncertainty_j(near_s, step_j, after - 1 - low, edges),
    )


def _distinct(edges_s: Sequence[float]) -> Floats:
    """The edges in order, one of each group that is `SAME_MOMENT_S` wide."""
    kept: list[float] = []
    for edge_s in sorted(edges_s):
        if not kept or edge_s - kept[-1] > SAME_MOMENT_S:
            kept.append(edge_s)
    return np.array(kept)


def _cell_power_w(knots: Floats, tick_s: Floats, step_j: Floats, edges_s: Floats) -> Floats:
    """Power of each cell between `knots` [W]: smoothest with every tick's energy exact."""
    length_s = np.diff(knots)
    cells, steps = len(length_s), len(step_j)
    owner = np.searchsorted(tick_s, knots[1:]) - 1
    holds = np.zeros((steps, cells))
    holds[owner, np.arange(cells)] = length_s
    jump = np.isin(knots[1:-1], edges_s)
    weight = np.where(jump, ACROSS_EDGE, 1.0)
    rough = np.zeros((cells, cells))
    index = np.arange(cells - 1)
    rough[index, index] += weight
    rough[index + 1, index + 1] += weight
    rough[index, index + 1] -= weight
    rough[index + 1, index] -= weight
    system = np.block([[rough, holds.T], [holds, np.zeros((steps, steps))]])
    known = np.concatenate([np.zeros(cells), step_j])
    power_w: Floats = np.linalg.solve(system, known)[:cells]
    return power_w


def _uncertainty_j(tick_s: Floats, step_j: Floats, here: int, edges_s: Floats) -> float:
    length_s = np.diff(tick_s)
    around = slice(max(0, here - 1), here + 2)
    power_w = (step_j / length_s)[around]
    change_w = float(power_w.max() - power_w.min())
    span_s = tick_s[around.start], tick_s[min(here + 2, len(tick_s) - 1)]
    nearby = edges_s[(edges_s > span_s[0]) & (edges_s < span_s[1])]
    alone = len(power_w) == 3 and not (np.diff(nearby) > PAUSE_S).any()
    return float(length_s[here]) * change_w * (CLEAR_EDGE if alone else CROWDED_EDGE)
