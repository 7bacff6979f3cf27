"""Runs of an engine that refills, simulated with a known truth: slots that take up waiting requests,
power that follows how many of them are busy, a counter that errs at edges, and what codejoule makes
of it."""

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codejoule.domain import Pace, Slice, attribute_slices

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What decodes, and how well its energy is known."""

    slots: int = 32
    idle_w: float = 250.0
    """While anything runs."""
    slot_w: float = 8.0
    """For each busy slot more."""
    step_s: float = 0.012
    edge_j: float = 6.0
    """Standard deviation of the error at an edge between windows [J]: what one has too much its
    neighbour has too little."""
    drift: float = 0.01
    """Standard deviation of a drift of power, which is gone after `drift_s`."""
    drift_s: float = 5.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """The energy of each task as it is booked, and where the windows were cut."""

    energy_j: Floats
    windows: int


def decode(tokens: NDArray[np.int64], machine: Machine) -> list[Pace]:
    """Requests in order, each taking the slot that is free first."""
    free_s = [0.0] * min(machine.slots, len(tokens))
    paces = []
    for count in tokens:
        begin_s = heapq.heappop(free_s)
        end_s = begin_s + float(count) * machine.step_s
        heapq.heappush(free_s, end_s)
        paces.append(Pace.in_seconds(0.0, begin_s, begin_s + machine.step_s, end_s))
    return paces


def run(
    tokens: NDArray[np.int64],
    machine: Machine,
    *,
    window_tasks: int,
    shortest_s: float = 1.0,
    rng: np.random.Generator,
) -> Run:
    """Decode, cut windows as `codejoule.experiment.session` does, and allocate."""
    paces = decode(tokens, machine)
    ends_s = np.sort([pace.end for pace in paces])
    edges_s, ended = [0.0], 0
    for count, end_s in enumerate(ends_s, start=1):
        left = len(tokens) - count
        if count - ended >= window_tasks <= left and end_s - edges_s[-1] >= shortest_s:
            edges_s.append(float(end_s))
            ended = count
    edges_s.append(float(ends_s[-1]))
    # Power at the middle of short steps of time.
    time_s = np.arange(0.0, ends_s[-1], 0.05) + 0.025
    begins_s = np.array([pace.begin for pace in paces])
    busy = np.searchsorted(np.sort(begins_s), time_s) - np.searchsorted(ends_s, time_s)
    power_w = (machine.idle_w + machine.slot_w * busy) * (1 + _drift(len(time_s), machine, rng))
    energy_j = np.histogram(time_s, bins=edges_s, weights=power_w * 0.05)[0]
    errors_j = rng.normal(0.0, machine.edge_j, len(edges_s))
    energy_j = np.maximum(energy_j + np.diff(errors_j), 1.0)
    energies_j = np.zeros(len(paces))
    for ran, shares_j in attribute_slices(
        [
            Slice(energy_j=float(j), prefill_j=None, end=end_s, end_s=end_s)
            for j, end_s in zip(energy_j, edges_s[1:], strict=True)
        ],
        prompt_tokens=[1] * len(paces),
        paces=paces,
    ):
        energies_j[ran] += shares_j
    return Run(energy_j=energies_j, windows=len(energy_j))


def _drift(count: int, machine: Machine, rng: np.random.Generator) -> Floats:
    """A first-order autoregression."""
    from scipy.signal import lfilter

    keep = np.exp(-0.05 / machine.drift_s)
    noise = rng.normal(0.0, machine.drift * np.sqrt(1 - keep**2), count)
    drift: Floats = lfilter([1.0], [1.0, -keep], noise)
    return drift


def lengths(
    count: int, *, spread: float, differ: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens of each task in two configurations: log-normal among tasks (`spread`), and, task by
    task, different in the second (`differ`)."""
    base = rng.lognormal(np.log(250.0), spread, count)
    other = base * rng.lognormal(0.0, differ, count)
    return (
        np.clip(base, 8, 1024).round().astype(np.int64),
        np.clip(other, 8, 1024).round().astype(np.int64),
    )
