"""Fits an engine's speed and a card's power to a few measured runs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

import numpy as np

from codejoule.domain import Workload
from codejoule.estimate.card import Card
from codejoule.estimate.generation import GenerationEstimate, estimate_generation
from codejoule.estimate.speed import EngineSpeed, PowerModel

_Model = TypeVar("_Model", EngineSpeed, PowerModel)

_SPREAD = 0.05
"""Relative error that a measured figure may have."""
_PRIOR_SPREAD = 1.0
"""How far a parameter may lie from its prior, in natural logarithms: a factor of e."""
_SHARES = ("bandwidth_efficiency", "compute_efficiency")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRun(Workload):
    """One measured batch, or the mean of several alike."""

    card: Card
    """The GPU it ran on."""
    latency_s: float
    """Time of a batch [s]."""
    energy_j: float | None = None
    """Energy of the card [J], idle power included; None where it was not measured."""


def calibrate_speed(runs: Sequence[MeasuredRun], *, prior: EngineSpeed) -> EngineSpeed:
    r"""Fit an engine's speed to measured times.

    Parameters
    ----------
    runs : sequence of MeasuredRun
        At least one, all with the engine that is sought.
    prior : EngineSpeed
        Values for what the runs do not determine; a parameter that is 0 there stays 0.

    Returns
    -------
    EngineSpeed
        The most probable parameters.

    Raises
    ------
    ValueError
        If there are no runs, or a card's peak rate is not known.

    Notes
    -----
    Minimises

    .. math:: \sum_i \left(\frac{\ln \hat t_i - \ln t_i}{0.05}\right)^2
        + \sum_j \left(\ln \theta_j - \ln \theta_j^0\right)^2

    so that a few runs suffice: what they determine follows them, the rest stays at the prior.
    Efficiencies are kept at or below 1.
    """
    if not runs:
        raise ValueError("calibration needs at least one measured run")
    watts = PowerModel(active_share=0, bandwidth_share=0, compute_share=0, four_bit_share=0)

    def misfits(engine: EngineSpeed) -> list[float]:
        return [math.log(_predicted(run, engine, watts).latency_s / run.latency_s) for run in runs]

    return _most_probable(prior, misfits)


def calibrate_power(
    runs: Sequence[tuple[MeasuredRun, EngineSpeed]], *, prior: PowerModel
) -> PowerModel:
    """Fit a card's power to measured energies.

    Parameters
    ----------
    runs : sequence of (MeasuredRun, EngineSpeed)
        Runs with the calibrated speed of what ran them; those without an energy are left out. All
        passes are stretched to the *measured* time, so that an error of the speed does not become
        one of the power.
    prior : PowerModel
        Values for what the runs do not determine.

    Returns
    -------
    PowerModel
        The most probable shares, by the rule of `calibrate_speed`.

    Raises
    ------
    ValueError
        If no run has an energy, or a card's power limit or peak rate is not known.
    """
    metered = []
    for run, engine in runs:
        if run.energy_j is not None:
            factor = run.latency_s / _predicted(run, engine, prior).latency_s
            metered.append((run, run.energy_j, _stretched(engine, factor)))
    if not metered:
        raise ValueError("calibrating power needs at least one run whose energy was measured")

    def misfits(power: PowerModel) -> list[float]:
        found = []
        for run, energy_j, engine in metered:
            ours_j = _predicted(run, engine, power).energy_j
            if ours_j is None:
                raise ValueError(f"the power limit of {run.card.name} is not known")
            found.append(math.log(ours_j / energy_j))
        return found

    return _most_probable(prior, misfits)


def _predicted(run: MeasuredRun, engine: EngineSpeed, power: PowerModel) -> GenerationEstimate:
    estimate = estimate_generation(run, card=run.card, engine=engine, power=power)
    if estimate is None:
        raise ValueError(
            f"the peak rate of {run.card.name} in {run.dtype} is not known; give "
            "gpu.peak_float16_flop_per_s and its like"
        )
    return estimate


def _stretched(engine: EngineSpeed, factor: float) -> EngineSpeed:
    """An engine each of whose passes takes `factor` times as long."""
    return replace(
        engine,
        bandwidth_efficiency=engine.bandwidth_efficiency / factor,
        compute_efficiency=engine.compute_efficiency / factor,
        kernel_s_per_layer=engine.kernel_s_per_layer * factor,
        four_bit_s_per_layer=engine.four_bit_s_per_layer * factor,
        sequence_s=engine.sequence_s * factor,
        host_s_per_layer=engine.host_s_per_layer * factor,
    )


def _most_probable(prior: _Model, misfits: Callable[[_Model], list[float]]) -> _Model:
    from scipy.optimize import least_squares

    fields: Mapping[str, object] = asdict(prior)
    free = {
        name: math.log(value) for name, value in fields.items() if type(value) is float and value
    }
    start = np.array(list(free.values()), dtype=float)
    upper = np.array([0.0 if name in _SHARES else np.inf for name in free])

    def residuals(logs: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> list[float]:
        model = replace(prior, **dict(zip(free, np.exp(logs).tolist(), strict=True)))
        data: list[float] = [misfit / _SPREAD for misfit in misfits(model)]
        pulls: list[float] = ((logs - start) / _PRIOR_SPREAD).tolist()
        return data + pulls

    begin = np.minimum(start, upper - 1e-9)
    found = least_squares(residuals, begin, bounds=(np.full_like(upper, -np.inf), upper)).x
    return replace(prior, **dict(zip(free, np.exp(found).tolist(), strict=True)))
