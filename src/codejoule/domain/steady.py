"""The steady state of an engine that refills: the part of its work in which all slots are busy."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codejoule.domain.completion import Pace

_Floats = NDArray[np.float64]


def steady_state(paces: Sequence[Pace], *, slots: int) -> tuple[float, float] | None:
    """Find when all slots of an engine were busy.

    Parameters
    ----------
    paces : sequence of Pace, shape (n,)
        When each sequence was decoded, of those that the engine was given together.
    slots : int
        How many sequences the engine decodes at once.

    Returns
    -------
    (float, float) or None
        Its beginning and end [s after the opening]; None where there is none, or where the paces
        do not tell seconds.

    Notes
    -----
    A slot counts as busy while a sequence is in it, and between two sequences while a request
    waits for it, because the engine decides how fast it refills. All slots are therefore busy as
    long as there are at least `slots` requests that have arrived and not ended. The time before
    every slot has been taken, and each of the sequences in them has had its first token, is left
    out: the slots fill by a burst of prefills that does not come again. Where requests arrive one
    after another there may be several such times; the longest is taken.
    """
    if len(paces) < slots or any(pace.begun_s is None for pace in paces):
        return None
    arrived = np.array([pace.arrived_s or 0.0 for pace in paces])
    begun = np.array([pace.begun_s for pace in paces], dtype=float)
    first = np.array([pace.first_s for pace in paces], dtype=float)
    ended = np.array([pace.ended_s for pace in paces], dtype=float)
    found = [
        (filled_s, end_s)
        for begin_s, end_s in _crowded(arrived, ended, slots)
        if (filled_s := _filled(begun, first, ended, slots, begin_s, end_s)) is not None
    ]
    return max(found, key=lambda span: span[1] - span[0], default=None)


def _crowded(arrived: _Floats, ended: _Floats, slots: int) -> list[tuple[float, float]]:
    """When at least `slots` requests were there."""
    times = np.concatenate([arrived, ended])
    changes = np.repeat([1, -1], len(arrived))
    # Who arrives at a moment is there before another leaves.
    order = np.lexsort((-changes, times))
    times, changes = times[order], changes[order]
    there = np.cumsum(changes)
    begins = times[(changes == 1) & (there == slots)]
    ends = times[(changes == -1) & (there == slots - 1)]
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


def _filled(
    begun: _Floats, first: _Floats, ended: _Floats, slots: int, begin_s: float, end_s: float
) -> float | None:
    """When, between two moments, all slots had first been taken by sequences with a token."""
    for time_s in np.unique([begin_s, *begun[(begun > begin_s) & (begun < end_s)]]):
        running = (begun <= time_s) & (ended > time_s)
        if running.sum() >= slots:
            filled_s = float(max(time_s, first[running].max()))
            return filled_s if filled_s < end_s else None
    return None


def tokens_between(
    paces: Sequence[Pace], output_tokens: Sequence[int], parts: Sequence[tuple[float, float]]
) -> list[float]:
    """Count what was generated in parts of a window.

    Parameters
    ----------
    paces : sequence of Pace, shape (n,)
        When each sequence of the window was decoded, in seconds.
    output_tokens : sequence of int, shape (n,)
        Generated tokens of each.
    parts : sequence of (float, float)
        Beginning and end of each [s after the window's opening].

    Returns
    -------
    list of float
        Of each part the tokens after its beginning and up to its end, those of a sequence being
        spread evenly from its first to its last.
    """
    firsts_s = np.array([pace.first_s for pace in paces], dtype=float)
    ended_s = np.array([pace.ended_s for pace in paces], dtype=float)
    tokens = np.array(output_tokens, dtype=float)

    def made(places: NDArray[np.int64], moment_s: float) -> _Floats:
        first_s, end_s, count = firsts_s[places], ended_s[places], tokens[places]
        tokens_per_s = np.divide(count - 1, end_s - first_s, where=end_s > first_s, out=0 * count)
        begun = np.where(moment_s < first_s, 0.0, tokens_per_s * (moment_s - first_s) + 1)
        return np.where(moment_s >= end_s, count, begun)

    found = []
    for begin_s, end_s in parts:
        ran = np.flatnonzero((firsts_s <= end_s) & (ended_s > begin_s))
        found.append(sum((made(ran, end_s) - made(ran, begin_s)).tolist(), 0.0))
    return found
