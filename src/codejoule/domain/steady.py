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
    changes = [*((time_s, 0, 1) for time_s in arrived), *((time_s, 1, -1) for time_s in ended)]
    there, since_s, spans = 0, 0.0, []
    for time_s, _, change in sorted(changes):
        if change == 1 and there == slots - 1:
            since_s = float(time_s)
        elif change == -1 and there == slots:
            spans.append((since_s, float(time_s)))
        there += change
    return spans


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
    paces: Sequence[Pace], output_tokens: Sequence[int], begin_s: float, end_s: float
) -> float:
    """Count what was generated in a part of a window.

    Parameters
    ----------
    paces : sequence of Pace, shape (n,)
        When each sequence of the window was decoded, in seconds.
    output_tokens : sequence of int, shape (n,)
        Generated tokens of each.
    begin_s, end_s : float
        The part [s after the window's opening].

    Returns
    -------
    float
        Tokens after `begin_s` and up to `end_s`, those of a sequence being spread evenly from its
        first to its last.
    """
    moments = np.array([begin_s, end_s])
    total = 0.0
    for pace, tokens in zip(paces, output_tokens, strict=True):
        assert pace.first_s is not None and pace.ended_s is not None
        made = np.interp(moments, [pace.first_s, pace.ended_s], [1.0, tokens])
        made[moments < pace.first_s] = 0.0
        made[moments >= pace.ended_s] = tokens
        total += float(made[1] - made[0])
    return total
