"""Energy readings, and the division of a batch's energy among its tasks.

On GPUs the figures come from the ledger: it records the ticks of NVML's energy counter, and works
out the energy between two ticks from the ticks around them (`codejoule.measurement.curve`). Zeus'
windows, which are two reads of the same counter, are opened around the same blocks as a check.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from codejoule.domain.completion import Pace
from codejoule.domain.validity import UNMEASURED, Doubt


class EnergySource(Enum):
    """How a joule was obtained."""

    nvml = "nvml"
    """Energy counter of an NVIDIA GPU, as NVML shows it; Zeus' windows check it."""
    rapl = "rapl"
    """Energy counter of the CPU package (and DRAM), in the files that Zeus finds."""
    estimate = "estimate"
    """CPU time x a documented power per core: not a measurement."""
    replay = "replay"
    """A recording of one of the above."""

    @property
    def label(self) -> str:
        """What follows a figure that was not measured here, e.g. `` (replay)``; else empty."""
        unmeasured = any(doubt.value == self.value for doubt in UNMEASURED)
        return f" ({self.value})" if unmeasured else ""


class EnergyScope(Enum):
    """Which devices a figure covers."""

    gpu = "gpu"
    """The GPUs in use, whole cards."""
    gpu_cpu = "gpu+cpu"
    """The same, and every CPU package and its memory."""
    cpu = "cpu"
    """Every CPU package and its memory, or an estimate of this process' share."""


class IdleSource(Enum):
    """How a figure of idle power came about."""

    measured = "measured"
    """Two spans agreed."""
    unsettled = "unsettled"
    """It still changed when the time for it was over."""
    taken_over = "taken over"
    """An earlier job of the sweep measured it on the same cards, and a short look agreed."""
    recorded = "recorded"
    """A recording states it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyReading:
    """Energy and time of one metered window.

    An energy is above 0 or, where nothing was measured, NaN: no powered device takes 0 J, so a 0
    is refused with ValueError wherever it comes from.
    """

    name: str
    """What the window enclosed, e.g. ``load`` or ``batch``."""
    source: EnergySource
    """How the energy was obtained."""
    scope: EnergyScope
    """Which devices it covers."""
    start_s: float
    """Wall-clock time at the window's opening [s since the epoch]."""
    latency_s: float
    """Length of the window by the monotonic clock [s]."""
    energy_j: float
    """Gross energy of all devices in scope [J]; NaN where it was not measured."""
    energy_net_j: float | None = None
    """Energy less idle power x length [J]; None where idle power is unknown."""
    energy_by_device_j: Mapping[str, float] = field(default_factory=dict)
    """Gross energy of each device in scope, e.g. ``gpu:0`` [J]."""
    energy_out_of_scope_j: Mapping[str, float] = field(default_factory=dict)
    """Energy of devices measured in the same window but out of scope, e.g. ``cpu:0`` [J]; one
    that could not be read is absent."""
    marks_s: Mapping[str, float] = field(default_factory=dict)
    """Named moments inside the window [s after its opening]."""
    energy_at_marks_j: Mapping[str, float] = field(default_factory=dict)
    """Energy from the opening to each mark [J]; a mark that the source cannot resolve is absent."""
    uncertainty_j: float | None = None
    """Standard uncertainty of `energy_j` [J]; None where the source does not state it."""
    ticks: int | None = None
    """Steps of the energy counter inside the window; None where they were not observed."""
    integrated_j: float | None = None
    """Energy of the GPUs by the second method, instantaneous power integrated [J]; None where
    power was not sampled."""
    zeus_j: float | None = None
    """What Zeus' own window around the same block says of the GPUs' counters [J], read at its two
    edges; None where Zeus opened none, or one of them did not tick."""
    concurrent: tuple[str, ...] = ()
    """Other jobs of codejoule that worked on the machine during the window and may have changed its
    energy."""
    doubts: tuple[Doubt, ...] = ()
    """What the source saw by which the energy is not that of the work alone."""

    def __post_init__(self) -> None:
        known_j = {
            "energy_j": self.energy_j,
            "integrated_j": self.integrated_j,
            "zeus_j": self.zeus_j,
            **self.energy_by_device_j,
            **self.energy_out_of_scope_j,
            **self.energy_at_marks_j,
        }
        for what, value_j in known_j.items():
            if value_j is not None and not (math.isnan(value_j) or 0 < value_j < math.inf):
                raise ValueError(
                    f"window {self.name!r}: {what} is {value_j} J, and no powered device takes "
                    "that; what was not measured is NaN or absent"
                )

    def of_j(self, kind: str) -> float | None:
        """Energy of the devices of one kind (``gpu``, ``cpu``, ``dram``), in scope or beside it
        [J]; None where there is none, NaN where one of them was not measured."""
        devices_j = {**self.energy_by_device_j, **self.energy_out_of_scope_j}
        found_j = [j for device, j in devices_j.items() if device.startswith(f"{kind}:")]
        return sum(found_j) if found_j else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSample:
    """Power of one device at one moment."""

    time_s: float
    """Wall-clock time [s since the epoch]."""
    device: str
    """The device, e.g. ``gpu:0``."""
    power_w: float
    """Its power [W]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooling:
    """A wait for the GPUs to cool down."""

    waited_s: float
    """Time spent waiting [s]."""
    reached: bool
    """Whether the condition was met; False where only the time was up."""
    temperature_start_c: float | None
    """Temperature of the warmest GPU before it [degrees Celsius]; None where not known."""
    temperature_end_c: float | None
    """The same after it."""


FIRST_TOKEN = "first_token"
"""The mark that divides a window of generation into prefill and decode."""

_DECODE = "decode"


def later_prefill(number: int) -> tuple[str, str]:
    """The marks at the beginning and end of a window's prefill `number`, from 1: of prompts that
    take the place of sequences that have ended."""
    return f"prefill#{number}", f"{_DECODE}#{number}"


def prefill_part(
    at_marks: Mapping[str, float], marks: Collection[str], *, opens: bool = True
) -> float | None:
    """How much of a quantity that grows through a window fell to its prefills.

    Parameters
    ----------
    at_marks : mapping of str to float
        What it had grown to at each mark: energy from the opening [J], or time [s].
    marks : collection of str
        Names of all marks of the window.
    opens : bool
        Whether decoding begins with the window, so that its first prefill is up to `FIRST_TOKEN`;
        False for a later slice of an engine that refills.

    Returns
    -------
    float or None
        The part up to `FIRST_TOKEN` and between the two marks of each `later_prefill`; None
        where a window that opens has no first token, or one of these is not known.
    """
    if opens and FIRST_TOKEN not in at_marks:
        return None
    part = at_marks[FIRST_TOKEN] if opens else 0.0
    for end in marks:
        prefix, _, number = end.partition("#")
        if prefix != _DECODE:
            continue
        if end not in at_marks:
            return None
        # A prefill with which a slice begins starts at the slice's edge, where no energy has flowed
        # yet.
        part += at_marks[end] - at_marks.get(later_prefill(int(number))[0], 0.0)
    return part


def attribute_energy(
    energy_j: float,
    prefill_j: float | None,
    *,
    prompt_tokens: Sequence[int],
    output_tokens: Sequence[int],
    spans: Sequence[tuple[float, float]] | None = None,
) -> tuple[float, ...]:
    r"""Divide the energy of a window among its sequences.

    The shares are *allocated*, not measured: a GPU serves all sequences of a batch at
    once, and no counter can tell which sequence used which joule.

    Parameters
    ----------
    energy_j : float
        Energy of the window [J].
    prefill_j : float or None
        Of that, energy up to the first token [J]; None where the meter cannot resolve it.
    prompt_tokens : sequence of int, shape (n,)
        Prompt length of each sequence, padding not counted.
    output_tokens : sequence of int, shape (n,)
        Generated tokens of each sequence.
    spans : sequence of (float, float), shape (n,), optional
        Where each sequence takes part in what is not known to be prefill, on a clock that they
        share (decode steps or seconds). By default they begin together and take a step for each
        token that the known prefill did not make.

    Returns
    -------
    tuple of float, shape (n,)
        Energy allocated to each sequence [J]; adds up to `energy_j`.

    Raises
    ------
    ValueError
        If the sequences differ in length or are empty, or a span ends before it begins.

    Notes
    -----
    Prefill energy is divided in proportion to prompt tokens; the prefill makes the first
    token of each sequence. Decode energy is divided evenly over the clock wherever a sequence
    runs, and each moment's energy evenly among the sequences that then run: with
    :math:`a(t)` of them, and :math:`T` the length of time with :math:`a(t) > 0`, sequence
    :math:`i` with span :math:`(b_i, e_i)` receives

    .. math:: \frac{E_\text{decode}}{T} \int_{b_i}^{e_i} \frac{dt}{a(t)}

    By default sequence ``i`` takes part in the first ``output_tokens[i] - 1`` steps. Where the
    prefill is unknown, the whole window is divided by the decode rule: by default the prefill is
    one more step, and given spans have it inside.
    """
    n = len(prompt_tokens)
    if n == 0 or n != len(output_tokens) or (spans is not None and n != len(spans)):
        raise ValueError(
            f"prompt_tokens, output_tokens and spans need one entry per sequence, at least one; "
            f"got {n}, {len(output_tokens)} and {'none' if spans is None else len(spans)}"
        )
    if spans is None:
        made = 0 if prefill_j is None else 1
        spans = [(0.0, max(0.0, tokens - made)) for tokens in output_tokens]
    if prefill_j is None:
        return tuple(_decode_shares(energy_j, spans))
    total = sum(prompt_tokens)
    shares = [prefill_j * tokens / total if total else prefill_j / n for tokens in prompt_tokens]
    decode = _decode_shares(energy_j - prefill_j, spans)
    return tuple(a + b for a, b in zip(shares, decode, strict=True))


def _decode_shares(energy_j: float, spans: Sequence[tuple[float, float]]) -> list[float]:
    """Each moment's energy, divided evenly among the sequences that then run."""
    if any(end < begin for begin, end in spans):
        raise ValueError("a sequence cannot end before it begins")
    moments = np.unique(np.asarray(spans, dtype=float))
    begins, ends = np.searchsorted(moments, np.asarray(spans, dtype=float)).T
    # How many run between each moment and the next: constant, so one sum per moment suffices.
    change = np.zeros(len(moments), dtype=int)
    np.add.at(change, begins, 1)
    np.add.at(change, ends, -1)
    running = np.cumsum(change)[:-1]
    lengths = np.diff(moments)
    busy = float(lengths[running > 0].sum())
    if busy == 0:
        return [energy_j / len(spans)] * len(spans)
    each = np.divide(lengths, running, out=np.zeros_like(lengths), where=running > 0)
    reached = np.concatenate([[0.0], np.cumsum(each)]) * (energy_j / busy)
    return [float(share) for share in reached[ends] - reached[begins]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A window between two moments of one decoding that goes on through both."""

    energy_j: float
    """Energy between them [J]."""
    prefill_j: float | None
    """Of that, energy of prefills [J]; None where the engine does not tell them."""
    end: float
    """The later moment, on the clock of the sequences' paces."""
    end_s: float
    """The same [s after the decoding began]."""


def attribute_slices(
    slices: Iterable[Slice],
    *,
    prompt_tokens: Sequence[int],
    paces: Sequence[Pace],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Divide the energy of windows that follow one another among the sequences that ran in them.

    Parameters
    ----------
    slices : iterable of Slice
        In order, the first from the beginning of decoding on.
    prompt_tokens : sequence of int, shape (n,)
        Prompt length of each sequence.
    paces : sequence of Pace, shape (n,)
        When each of them was decoded; of one that was broken off, up to then.

    Yields
    ------
    ndarray of int, ndarray of float
        Of each slice the places of the sequences that ran in it, and the energy allocated to each
        of them [J], which adds up to the slice's energy.

    Notes
    -----
    Each slice is divided by the rule of `attribute_energy`, with what of every sequence lies
    within it: the prompt of those whose first token came in it, and the part of their spans
    between its edges. A sequence's energy is the sum over the slices that it ran in.
    """
    begins = np.array([pace.begin for pace in paces])
    firsts = np.array([pace.first for pace in paces])
    ends = np.array([pace.end for pace in paces])
    firsts_s = np.array([math.nan if pace.first_s is None else pace.first_s for pace in paces])
    begin, begin_s = -math.inf, -math.inf
    for each in slices:
        starts = begins if each.prefill_j is None else firsts
        low, high = np.maximum(starts, begin), np.minimum(ends, each.end)
        read = (firsts_s > begin_s) & (firsts_s <= each.end_s)
        chosen = np.flatnonzero((high > low) | read)
        if chosen.size == 0:
            # The slice was cut at an end that had come a moment before by the sequences' clock.
            chosen = np.flatnonzero(ends == ends[ends <= each.end].max(initial=ends.min()))
        shares_j = attribute_energy(
            each.energy_j,
            each.prefill_j,
            prompt_tokens=[prompt_tokens[i] if read[i] else 0 for i in chosen],
            output_tokens=[0] * len(chosen),
            spans=[(low[i], max(low[i], high[i])) for i in chosen],
        )
        yield chosen, np.array(shares_j)
        begin, begin_s = each.end, each.end_s


def break_even_tasks(*, cost_j: float, before_j: float, after_j: float) -> float:
    """Tasks after which what was spent once has been saved.

    Parameters
    ----------
    cost_j : float
        Energy spent once, such as that of quantizing a model [J].
    before_j : float
        Energy per task without it [J].
    after_j : float
        Energy per task with it [J].

    Returns
    -------
    float
        ``cost_j / (before_j - after_j)``; infinite where a task does not take less than before.
    """
    saved_j = before_j - after_j
    return cost_j / saved_j if saved_j > 0 else math.inf
