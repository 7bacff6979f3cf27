"""The policies that can be made of some configurations, and the one that is wanted."""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codejoule.cli.cascade.study import FEWEST_CLUSTERS, Study
from codejoule.config import ConfigError, UserError
from codejoule.statistics import (
    ALPHA,
    Resampled,
    Resampler,
    front_probability,
    has_spread,
    paired_accuracy,
    pareto_front,
    resample,
)
from codejoule.statistics.policies import (
    FOLDS,
    Cascade,
    Outcomes,
    Policy,
    Prediction,
    Route,
    Selection,
    Wanted,
    cascades,
    cross_validate,
    draw_folds,
    predict_run,
    routes,
    select,
)

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Policies with their figures, on tasks that decide nothing about themselves."""

    study: Study
    """Their members."""
    wanted: Wanted
    """What is chosen for."""
    asked: NDArray[np.bool_]
    """Tasks that the figures are of; the others are held out."""
    policies: tuple[Policy, ...]
    """Single models first."""
    names: tuple[str, ...]
    """Name of each."""
    energy_j: NDArray[np.float64]
    """Energy per task of each [J]."""
    pass_at_1: NDArray[np.float64]
    """pass@1 of each by the hidden tests."""
    energy_ci_j: tuple[Interval, ...]
    """95 % intervals of energy per task, by the choice of tasks."""
    pass_ci: tuple[Interval, ...]
    """The same of pass@1."""
    front: NDArray[np.bool_]
    """Whether each is on the front of all policies."""
    front_of_models: NDArray[np.bool_]
    """Whether each is on the front of single models."""
    front_probability: NDArray[np.float64]
    """Share of resamples of tasks in which each is on the front of all policies."""
    best: Selection
    """The policy that is wanted."""
    best_model: Selection
    """The single model that is wanted."""
    energy_ratio: tuple[float, float, float]
    """Energy of choosing among all policies over that of choosing a single model, with its 95 %
    interval."""
    pass_difference: tuple[float, float, float]
    """pass@1 of the first less that of the second, with its interval, task by task."""
    prediction: Prediction
    """What a run of the policy that is asked for will show."""
    policy: int
    """That policy: `best`, unless another was named."""

    @property
    def count(self) -> int:
        """Single models."""
        return len(self.study.names)

    @property
    def run_tasks(self) -> NDArray[np.bool_]:
        """The tasks that a run of the policy is for: those held out, else all."""
        return self.asked if self.asked.all() else ~self.asked


def find(
    study: Study, wanted: Wanted, *, hold_out: float = 0.0, named: str | None = None, seed: int = 0
) -> Found:
    """Make all policies and choose. `hold_out` is the share of tasks, drawn by `seed`, whose
    figures are not looked at; `named` is the policy to predict a run of. Raises `UserError` for too
    few tasks, `ConfigError` for a policy that there is not."""
    rng = np.random.default_rng(seed)
    count, total = len(study.names), len(study.task_ids)
    asked = np.ones(total, dtype=bool)
    asked[rng.permutation(total)[: round(hold_out * total)]] = False
    labels = np.unique(study.labels[asked], return_inverse=True)[1]
    if asked.sum() < FOLDS or labels.max() + 1 < FEWEST_CLUSTERS:
        raise UserError(
            f"{int(asked.sum())} tasks in {int(labels.max()) + 1} separately metered groups are "
            f"too few to choose a policy by: it takes {FOLDS} tasks and {FEWEST_CLUSTERS} groups; "
            "run more tasks, or smaller batches"
        )
    policies: list[Policy] = [*cascades(count), *routes(count, study.features)]
    names = [policy_name(policy, study.names) for policy in policies]
    folds = np.full(total, -1)
    folds[asked] = draw_folds(int(asked.sum()), rng=rng)
    outcomes = cross_validate(policies, study.members, folds).part(asked)
    kept = _distinct(outcomes)
    policies, names = [policies[i] for i in kept], [names[i] for i in kept]
    outcomes = Outcomes(outcomes.energy_j[kept], outcomes.passed[kept])
    energy_j, pass_at_1 = outcomes.means()
    resampler = Resampler(rng=rng)
    drawn = _drawn(outcomes, labels, resampler)
    models = np.arange(len(policies)) < count
    front_of_models = models.copy()
    front_of_models[:count] = pareto_front(energy_j[:count], pass_at_1[:count])
    best = select(policies, study.members, folds, wanted)
    best_model = select(policies[:count], study.members, folds, wanted)
    pair = Outcomes(
        np.stack([best.energy_j, best_model.energy_j]), np.stack([best.passed, best_model.passed])
    ).part(asked)
    two = _drawn(pair, labels, resampler)
    accuracy = paired_accuracy(*pair.passed)
    policy = best.policy if named is None else _named(named, names)
    own = (
        pair if named is None else Outcomes(outcomes.energy_j[[policy]], outcomes.passed[[policy]])
    )
    return Found(
        study=study, wanted=wanted, asked=asked, policies=tuple(policies), names=tuple(names),
        energy_j=energy_j, pass_at_1=pass_at_1,
        energy_ci_j=tuple(map(_interval, drawn.energy_j.T)),
        pass_ci=tuple(map(_interval, drawn.pass_at_1.T)),
        front=pareto_front(energy_j, pass_at_1), front_of_models=front_of_models,
        front_probability=front_probability(drawn), best=best, best_model=best_model,
        energy_ratio=(
            float(pair.energy_j[0].mean() / pair.energy_j[1].mean()),
            *_interval(two.energy_j[:, 0] / two.energy_j[:, 1]),
        ),
        pass_difference=(accuracy.difference, accuracy.ci_low, accuracy.ci_high),
        prediction=predict_run(
            own.energy_j[0], own.passed[0], labels,
            tasks=int((~asked).sum()) or total, runs=study.runs, variance=study.variance,
            resampler=resampler,
        ),
        policy=policy,
    )  # fmt: skip


def policy_name(policy: Policy, names: Sequence[str]) -> str:
    """E.g. ``qwen_0_5b none b8 then qwen_7b none b8``, ``by domain, worth 10``."""
    if isinstance(policy, Route):
        return f"by {policy.by}, worth {policy.worth:g}"
    assert isinstance(policy, Cascade)
    return " then ".join(names[member] for member in policy.members)


def _distinct(outcomes: Outcomes) -> list[int]:
    """Policies that do not do the same as an earlier one, such as routing that always chooses one
    model."""
    first: dict[bytes, int] = {}
    for i, (energy_j, passed) in enumerate(zip(outcomes.energy_j, outcomes.passed, strict=True)):
        first.setdefault(energy_j.tobytes() + passed.tobytes(), i)
    return list(first.values())


def _named(text: str, names: Sequence[str]) -> int:
    wanted = " ".join(text.split())
    if wanted in names:
        return names.index(wanted)
    near = difflib.get_close_matches(wanted, names, n=3) or names[:3]
    raise ConfigError(
        f"--policy {text!r}: no such policy; there are {len(names)}, such as {'; '.join(near)} "
        "(--json lists all)"
    )


def _drawn(outcomes: Outcomes, labels: NDArray[np.int64], resampler: Resampler) -> Resampled:
    """Energy per task and pass@1 of each policy in resamples of clusters of tasks."""
    runs_j = [row[None, :] / labels.size for row in outcomes.energy_j]
    return resample(runs_j, outcomes.passed, labels, resampler=resampler)


def _interval(values: NDArray[np.float64]) -> Interval:
    """NaN where no resample differs: a width of 0 would look like certainty."""
    if not has_spread(values):
        return math.nan, math.nan
    low, high = np.percentile(values, [100 * ALPHA / 2, 100 * (1 - ALPHA / 2)])
    return float(low), float(high)
