"""Which model answers which task: policies, and what each would have cost and solved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from codejoule.statistics.between_runs import RunVariance
from codejoule.statistics.clusters import Resampler, cluster_sums
from codejoule.statistics.result import ALPHA

FOLDS = 10
"""Parts that the tasks are divided into."""
MOST_MEMBERS = 3
"""Members of the longest cascade."""
WORTHS = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0)
"""What a correct program is worth to a routing policy, in mean energies of a task."""
FEWEST_IN_GROUP = 10
"""A group of fewer tasks decides nothing by itself."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """What each member does with each task: means over its samples. All of shape (members, tasks).
    With one sample per task shares are 0 or 1."""

    energy_j: NDArray[np.float64]
    """Energy of generating one sample [J]."""
    judging_j: NDArray[np.float64]
    """Energy of judging it by the shown tests [J]."""
    accepted: NDArray[np.float64]
    """Share that passes the shown tests."""
    solved: NDArray[np.float64]
    """Share that passes the hidden tests."""
    accepted_solved: NDArray[np.float64]
    """Share that passes both."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What policies make of tasks, each of shape (policies, tasks)."""

    energy_j: NDArray[np.float64]
    """Energy of generating and of judging by the shown tests [J]."""
    passed: NDArray[np.float64]
    """Probability that the program which is given out passes the hidden tests."""

    def part(self, tasks: Mask) -> "Outcomes":
        """The same of some tasks."""
        return Outcomes(self.energy_j[:, tasks], self.passed[:, tasks])

    def means(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Energy per task [J] and pass@1 of each policy."""
        return self.energy_j.mean(axis=1), self.passed.mean(axis=1)


Chain = tuple[int, ...]
"""Members in the order in which they are asked."""


class Policy(Protocol):
    """Says which members are asked for which task."""

    @property
    def members(self) -> tuple[int, ...]:
        """All that it may ask."""

    @property
    def decides(self) -> bool:
        """Whether it has something to decide from figures of tasks."""

    def chains(self, members: Members, *, known: Mask) -> list[tuple[Chain, Mask]]:
        """Each chain of members and the tasks, shape (tasks,), that it is asked for, by decisions
        that rest on the figures of the `known` tasks alone. A task belongs to one chain."""


@dataclass(frozen=True, slots=True)
class Cascade:
    """The first member answers; where its program fails the shown tests, the next one does. The
    last one's program is given out as it is, and is not judged by the shown tests. A cascade of one
    member is that model by itself."""

    members: Chain
    """Members in the order in which they are asked."""

    decides: ClassVar[bool] = False

    def chains(self, members: Members, *, known: Mask) -> list[tuple[Chain, Mask]]:
        """See `Policy`."""
        return [(self.members, np.ones_like(known))]


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One member for each group of tasks that are told apart before anything is generated: the one
    with the least ``energy - worth x mean energy x pass@1`` among the group's known tasks. A group
    with fewer than `FEWEST_IN_GROUP` known tasks does what is best for all of them."""

    by: str
    """What tells the groups apart."""
    groups: NDArray[np.int64]
    """Group of each task, shape (tasks,)."""
    worth: float
    """What a correct program is worth, in mean energies of a task."""
    members: tuple[int, ...]
    """Members to choose among."""

    decides: ClassVar[bool] = True

    def chains(self, members: Members, *, known: Mask) -> list[tuple[Chain, Mask]]:
        """See `Policy`."""
        own = list(self.members)
        energy_j, solved = members.energy_j[own], members.solved[own]
        loss_j = energy_j - self.worth * energy_j[:, known].mean() * solved
        chosen = np.full(known.size, loss_j[:, known].mean(axis=1).argmin())
        for group in np.unique(self.groups):
            inside = self.groups == group
            if (inside & known).sum() >= FEWEST_IN_GROUP:
                chosen[inside] = loss_j[:, inside & known].mean(axis=1).argmin()
        return [((own[place],), chosen == place) for place in np.unique(chosen)]


def chain_outcomes(members: Members, chain: Chain) -> tuple[NDArray[np.float64], ...]:
    """Energy [J] and probability of success of every task, shape (tasks,) each, by a chain.

    Notes
    -----
    With the energies ``e`` of generating and ``j`` of judging, and the share ``a`` of a member's
    samples that are accepted, from the last member back: ``E = e + j + (1 - a) E_next`` and
    ``P = P(accepted and solved) + (1 - a) P_next``; the last one has ``E = e`` and
    ``P = P(solved)``. Samples of different members are independent given the task.
    """
    *earlier, last = chain
    energy_j, passed = members.energy_j[last], members.solved[last]
    for member in reversed(earlier):
        left = 1 - members.accepted[member]
        energy_j = members.energy_j[member] + members.judging_j[member] + left * energy_j
        passed = members.accepted_solved[member] + left * passed
    return energy_j, passed


def policy_outcomes(
    policy: Policy, members: Members, *, known: Mask
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same by a policy whose decisions rest on the `known` tasks."""
    energy_j, passed = np.empty(known.size), np.empty(known.size)
    for chain, own in policy.chains(members, known=known):
        all_j, all_passed = chain_outcomes(members, chain)
        energy_j[own], passed[own] = all_j[own], all_passed[own]
    return energy_j, passed


def cascades(count: int) -> list[Cascade]:
    """Every model of `count` by itself, then every cascade of 2 to `MOST_MEMBERS` of them."""
    sizes = range(1, min(count, MOST_MEMBERS) + 1)
    return [Cascade(order) for size in sizes for order in permutations(range(count), size)]


def routes(count: int, features: Mapping[str, NDArray[np.int64]]) -> list[Route]:
    """Routing among `count` members by each of `features` that tells tasks apart, for each of
    `WORTHS`."""
    everyone = tuple(range(count))
    return [
        Route(by=name, groups=groups, worth=worth, members=everyone)
        for name, groups in features.items()
        for worth in WORTHS
        if count > 1 and np.unique(groups).size > 1
    ]


def draw_folds(tasks: int, *, rng: np.random.Generator, folds: int = FOLDS) -> NDArray[np.int64]:
    """Number of each task's fold, from 0; sizes differ by one at most. ValueError for fewer tasks
    than folds."""
    if tasks < folds:
        raise ValueError(f"{tasks} tasks cannot be divided into {folds} folds")
    return np.asarray(rng.permutation(tasks) % folds, dtype=np.int64)


def cross_validate(
    policies: Sequence[Policy], members: Members, folds: NDArray[np.int64]
) -> Outcomes:
    """Work out what each policy makes of each task, decided by the tasks of the other folds.

    Parameters
    ----------
    policies : sequence of Policy
        ``p`` of them.
    members : Members
        Figures of all tasks.
    folds : ndarray of int, shape (tasks,)
        Fold of each task; -1 for a task that decides nothing and is not asked for.

    Returns
    -------
    Outcomes
        Shape (p, tasks); NaN in the columns of tasks in fold -1.
    """
    shape, asked = (len(policies), folds.size), folds >= 0
    found = Outcomes(np.full(shape, np.nan), np.full(shape, np.nan))
    for row, policy in enumerate(policies):
        # What is known changes nothing where nothing is decided.
        parts = [folds == fold for fold in np.unique(folds[asked])] if policy.decides else [asked]
        for own in parts:
            energy_j, passed = policy_outcomes(policy, members, known=asked & ~own)
            found.energy_j[row, own], found.passed[row, own] = energy_j[own], passed[own]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a policy is chosen for. With neither figure: least energy per correct program."""

    min_pass_at_1: float | None = None
    """pass@1 to reach, in (0, 1): the policy with least energy is wanted."""
    max_j: float | None = None
    """Energy per task not to exceed [J], above 0: the best pass@1 is wanted."""

    def __post_init__(self) -> None:
        if self.min_pass_at_1 is not None and not 0 < self.min_pass_at_1 < 1:
            raise ValueError(f"{self.min_pass_at_1:g}: pass@1 to reach lies between 0 and 1")
        if self.max_j is not None and not self.max_j > 0:
            raise ValueError(f"{self.max_j:g}: energy per task must be above 0 J")

    @property
    def words(self) -> str:
        """As a phrase."""
        limits = [
            *([] if self.min_pass_at_1 is None else [f"pass@1 of at least {self.min_pass_at_1:g}"]),
            *([] if self.max_j is None else [f"at most {self.max_j:g} J per task"]),
        ]
        if not limits:
            return "least energy per correct program"
        best = "best pass@1" if self.min_pass_at_1 is None else "least energy"
        return f"{best} with {' and '.join(limits)}"

    def choose(self, energy_j: NDArray[np.float64], passed: NDArray[np.float64]) -> int:
        """Place of the policy that is wanted, by energy per task [J] and pass@1 of each. Where none
        reaches both figures, the one with the best pass@1 of those within the energy, and else the
        one with least energy."""
        if self.min_pass_at_1 is None and self.max_j is None:
            with np.errstate(divide="ignore"):
                return int((energy_j / passed).argmin())
        within = energy_j <= (np.inf if self.max_j is None else self.max_j)
        if not within.any():
            return int(energy_j.argmin())
        least = 0.0 if self.min_pass_at_1 is None else self.min_pass_at_1
        good = within & (passed >= least)
        if self.min_pass_at_1 is not None and good.any():
            return int(np.where(good, energy_j, np.inf).argmin())
        # Among equals the one with less energy.
        best = within & (passed == passed[within].max())
        return int(np.where(best, energy_j, np.inf).argmin())

    def reached(self, energy_j: float, passed: float) -> bool:
        """Whether a policy with these figures is what is wanted."""
        return energy_j <= (np.inf if self.max_j is None else self.max_j) and passed >= (
            0.0 if self.min_pass_at_1 is None else self.min_pass_at_1
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A policy that was chosen among several, and what choosing so gives on tasks that do not
    choose."""

    policy: int
    """The one that all tasks choose."""
    energy_j: NDArray[np.float64]
    """Energy of each task [J] by the policy that the other folds chose, shape (tasks,); NaN where
    it was not asked for."""
    passed: NDArray[np.float64]
    """Its probability of success."""
    share: float
    """Share of the folds that chose `policy`."""


def select(
    policies: Sequence[Policy], members: Members, folds: NDArray[np.int64], wanted: Wanted
) -> Selection:
    """Choose a policy, and work out what choosing so costs and solves on tasks that do not choose.

    Parameters
    ----------
    policies : sequence of Policy
        What to choose among.
    members : Members
        Figures of all tasks.
    folds : ndarray of int, shape (tasks,)
        Fold of each task; -1 for a task that decides nothing and is not asked for.
    wanted : Wanted
        What is chosen for.

    Returns
    -------
    Selection
        For the tasks of each fold, the policy is chosen, and its own decisions are made, by the
        others alone. They are compared by cross-validation in turn, so that a policy with much to
        decide has no advantage.
    """
    asked = folds >= 0
    energy_j, passed = np.full(folds.size, np.nan), np.full(folds.size, np.nan)
    final = wanted.choose(*cross_validate(policies, members, folds).part(asked).means())
    agreed = []
    for fold in np.unique(folds[asked]):
        own, others = folds == fold, asked & (folds != fold)
        inner = cross_validate(policies, members, np.where(own, -1, folds)).part(others)
        chosen = wanted.choose(*inner.means())
        all_j, all_passed = policy_outcomes(policies[chosen], members, known=others)
        energy_j[own], passed[own] = all_j[own], all_passed[own]
        agreed.append(chosen == final)
    return Selection(policy=final, energy_j=energy_j, passed=passed, share=float(np.mean(agreed)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a run of a policy will show, with 95 % intervals."""

    energy_j: float
    """Energy per task [J]."""
    energy_low_j: float
    """Lower end."""
    energy_high_j: float
    """Upper end."""
    pass_at_1: float
    """pass@1."""
    pass_at_1_low: float
    """Lower end."""
    pass_at_1_high: float
    """Upper end."""


def predict_run(
    energy_j: NDArray[np.float64],
    passed: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    tasks: int,
    runs: int,
    variance: RunVariance,
    resampler: Resampler,
) -> Prediction:
    """Predict energy per task and pass@1 of a further run, on other tasks of the same kind.

    Parameters
    ----------
    energy_j, passed : ndarray of float, shape (t,)
        Figures of the tasks that are known.
    labels : ndarray of int, shape (t,)
        Cluster of each of them.
    tasks : int
        Tasks of the further run.
    runs : int
        Runs of each member behind `energy_j`.
    variance : RunVariance
        How much the energy of runs differs.
    resampler : Resampler
        Source of randomness.

    Returns
    -------
    Prediction
        Percentiles of a bootstrap over clusters: the known tasks are drawn anew for what is known,
        and once more, independently and as many as the run has, for the run. Energy has the
        difference between runs on top, of the known runs and of the further one. The ends of pass@1
        are no surer than tasks that were not seen allow (`unseen`).
    """
    sizes = np.bincount(labels).astype(float)
    sums = cluster_sums(np.stack([energy_j, passed]), labels)
    counts, rng = resampler.counts(sizes.size), resampler.rng
    known = counts @ sums.T / (counts @ sizes)[:, None]
    drawn = max(1, round(sizes.size * tasks / labels.size))
    picks = rng.integers(sizes.size, size=(resampler.resamples, drawn))
    further = sums[:, picks].sum(axis=2).T / sizes[picks].sum(axis=1)[:, None]
    mean_j, mean_passed = float(energy_j.mean()), float(passed.mean())
    error = variance.sd_log * np.sqrt(1 / runs + 1)
    noise = np.exp(error * rng.standard_t(min(variance.df, 1e6), size=resampler.resamples))
    ends = [100 * ALPHA / 2, 100 * (1 - ALPHA / 2)]
    low_j, high_j = np.percentile(mean_j * further[:, 0] / known[:, 0] * noise, ends)
    low, high = np.percentile(mean_passed + further[:, 1] - known[:, 1], ends)
    rest = (ALPHA / 2) ** (1 / min(tasks, labels.size))
    low, high = min(low, mean_passed * rest), max(high, 1 - (1 - mean_passed) * rest)
    return Prediction(
        energy_j=mean_j, energy_low_j=float(low_j), energy_high_j=float(high_j),
        pass_at_1=mean_passed, pass_at_1_low=max(0.0, float(low)),
        pass_at_1_high=min(1.0, float(high)),
    )  # fmt: skip
