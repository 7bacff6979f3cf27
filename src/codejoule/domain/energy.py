"""Energy readings, and the division of a batch's energy among its tasks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise


class EnergySource(Enum):
    """How a joule was obtained."""

    nvml = "nvml"
    """Energy counter of an NVIDIA GPU, read through Zeus."""
    rapl = "rapl"
    """Energy counter of the CPU package (and DRAM), read through Zeus."""
    estimate = "estimate"
    """CPU time x a documented power per core: not a measurement."""
    replay = "replay"
    """A recording of one of the above."""


class EnergyScope(Enum):
    """Which devices a figure covers."""

    gpu = "gpu"
    """The GPUs in use, whole cards."""
    gpu_cpu = "gpu+cpu"
    """The same, and every CPU package and its memory."""
    cpu = "cpu"
    """Every CPU package and its memory, or an estimate of this process' share."""


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
    energy_beside_j: Mapping[str, float] = field(default_factory=dict)
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

    def __post_init__(self) -> None:
        known_j = {
            "energy_j": self.energy_j,
            "integrated_j": self.integrated_j,
            **self.energy_by_device_j,
            **self.energy_beside_j,
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
        devices_j = {**self.energy_by_device_j, **self.energy_beside_j}
        found_j = [j for device, j in devices_j.items() if device.startswith(f"{kind}:")]
        return sum(found_j) if found_j else None


FIRST_TOKEN = "first_token"
"""The mark that divides a window of generation into prefill and decode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEnergy:
    """Energy of one accounting window, by phase where known."""

    energy_j: float
    """Energy of the whole window [J]."""
    prefill_j: float | None = None
    """Energy up to the first token [J]; None where the meter cannot resolve it."""


def attribute_energy(
    batch: BatchEnergy, *, prompt_tokens: Sequence[int], output_tokens: Sequence[int]
) -> tuple[float, ...]:
    """Divide the energy of a batch among its sequences.

    The shares are *allocated*, not measured: a GPU serves all sequences of a batch at
    once, and no counter can tell whose joule was whose.

    Parameters
    ----------
    batch : BatchEnergy
        Energy of the window [J].
    prompt_tokens : sequence of int, shape (n,)
        Prompt length of each sequence, padding not counted.
    output_tokens : sequence of int, shape (n,)
        Generated tokens of each sequence.

    Returns
    -------
    tuple of float, shape (n,)
        Energy allocated to each sequence [J]; adds up to ``batch.energy_j``.

    Raises
    ------
    ValueError
        If the sequences differ in length or are empty.

    Notes
    -----
    Prefill energy is divided in proportion to prompt tokens; the prefill makes the first
    token of each sequence. Decode energy is divided evenly over the decode steps, and each
    step's energy evenly among the sequences that still ran: sequence ``i`` takes part in
    ``s[i] = output_tokens[i] - 1`` steps, so with ``m = max(s)`` steps of energy
    ``e = E_decode / m`` it receives ``sum(e / active(t) for t < s[i])``. Where the prefill is
    unknown, the whole window is divided by the decode rule with ``s[i] = output_tokens[i]``.
    """
    n = len(prompt_tokens)
    if n == 0 or n != len(output_tokens):
        raise ValueError(
            f"prompt_tokens and output_tokens need one entry per sequence, at least one; "
            f"got {n} and {len(output_tokens)}"
        )
    if batch.prefill_j is None:
        return tuple(_decode_shares(batch.energy_j, output_tokens))
    shares = _proportional(batch.prefill_j, prompt_tokens)
    steps = [max(0, tokens - 1) for tokens in output_tokens]
    decode = _decode_shares(batch.energy_j - batch.prefill_j, steps)
    return tuple(a + b for a, b in zip(shares, decode, strict=True))


def _proportional(energy_j: float, weights: Sequence[int]) -> list[float]:
    total = sum(weights)
    if total == 0:
        return [energy_j / len(weights)] * len(weights)
    return [energy_j * w / total for w in weights]


def _decode_shares(energy_j: float, steps_of: Sequence[int]) -> list[float]:
    """Each step's energy, divided evenly among the sequences that still run."""
    steps = max(steps_of)
    if steps == 0:
        return [energy_j / len(steps_of)] * len(steps_of)
    # Between two ending lengths the number of running sequences is constant, so the
    # cumulative share is piecewise linear in the step: one sum per length suffices.
    ends = sorted({0, *steps_of})
    cumulative = {0: 0.0}
    for start, end in pairwise(ends):
        active = sum(1 for own in steps_of if own >= end)
        cumulative[end] = cumulative[start] + (end - start) * energy_j / steps / active
    return [cumulative[own] for own in steps_of]
