"""The smallest differences that a sweep will resolve, and what would make them smaller."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from codejoule.cli.estimate.benchmark import suites_of, tasks_of
from codejoule.cli.plan.history import History
from codejoule.cli.plan.jobs import PlannedJob, Target
from codejoule.config.relevance import flat, is_setting
from codejoule.config.schema import ExperimentConfig, Weights
from codejoule.config.typed import to_plain
from codejoule.statistics import ALPHA, RunVariance, smallest_ratio
from codejoule.statistics.power import smallest_difference

POWER = 0.8
"""Probability with which a difference of the size told is resolved."""

DISCORDANCE = 0.2
"""Share of tasks that is taken to change its verdict between two configurations, where no runs
tell."""

_MORE_TASKS = 4
_MORE_RUNS = (1, 3, 5, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What one comparison of two configurations resolves. None where nothing is, or is known."""

    energy_rel: Mapping[str, float]
    """Smallest difference in energy on these tasks between configurations of each engine,
    relative."""
    pass_at_1: float | None
    """Smallest difference in pass@1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of the sweep, and what it then resolves and takes."""

    override: str
    """As the command line has it."""
    resolution: Resolution
    """What it then resolves."""
    energy_j: float | None
    """Energy of all jobs then [J]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a sweep will resolve."""

    configurations: int
    """Configurations."""
    runs: int
    """Runs of each, of that with the fewest."""
    comparisons: int
    """Comparisons in the largest family: pairs that differ in one setting. Each is held to
    `ALPHA` over that number, as Holm's adjustment asks of the first."""
    resolution: Resolution
    """With the sweep as it is."""
    variances: Mapping[str, RunVariance]
    """Between-run variance of energy that this rests on, of each engine."""
    discordance: float
    """Share of tasks whose verdict is taken to differ between two configurations."""
    discordance_pairs: int
    """Pairs of earlier runs that tell so; 0 where it is assumed."""
    accuracy: bool
    """Whether pass@1 means anything: not with random weights, and not without an evaluator."""
    changes: tuple[Change, ...]
    """What would resolve less."""


def outlook_of(jobs: Sequence[PlannedJob], target: Target, history: History) -> Outlook:
    """Work out what the sweep of these jobs will resolve."""
    experiments = [job.experiment for job in jobs]
    settings = [_settings(own) for own in experiments]
    counts = Counter(map(_key, settings))
    runs, comparisons = min(counts.values()), _comparisons(settings)
    engines = sorted({own.engine.name.value for own in experiments})
    source = target.source.value
    variances = {name: history.variance(name, source) for name in engines}
    told = [history.discordance(name) for name in {own.suite.name for own in experiments}]
    known = [found for found in told if found is not None]
    discordance, pairs = max(known, default=(DISCORDANCE, 0))
    accuracy = all(
        own.model.weights is not Weights.random and own.evaluator.name.value != "none"
        for own in experiments
    )
    sizes = [job.tasks for job in jobs if job.tasks is not None]
    tasks = min(sizes) if len(sizes) == len(jobs) else None
    alpha = ALPHA / max(1, comparisons)

    def resolved(runs: int, tasks: int | None) -> Resolution:
        energy_rel = {
            name: smallest_ratio(runs, runs, variance=own, power=POWER, confidence=1 - alpha) - 1
            for name, own in variances.items()
        }
        passed = None
        if accuracy and tasks is not None:
            passed = smallest_difference(tasks, discordance=discordance, power=POWER, alpha=alpha)
        return Resolution(energy_rel=energy_rel, pass_at_1=passed)

    def changed(override: str, runs: int, tasks: int | None, factor: float) -> Change:
        energies_j = [job.energy_j for job in jobs]
        known_j = [own for own in energies_j if own is not None]
        return Change(
            override=override,
            resolution=resolved(runs, tasks),
            energy_j=factor * sum(known_j) if len(known_j) == len(jobs) else None,
        )

    changes = []
    more = next((own for own in _MORE_RUNS if own > runs), 2 * runs)
    override = f"repeat={','.join(map(str, range(1, more + 1)))}"
    changes.append(changed(override, more, tasks, more / runs))
    larger = _more_tasks(experiments, tasks)
    if accuracy and tasks is not None and larger is not None:
        limit, count = larger
        changes.append(changed(f"suite.limit={limit}", runs, count, count / tasks))
    return Outlook(
        configurations=len(counts),
        runs=runs,
        comparisons=comparisons,
        resolution=resolved(runs, tasks),
        variances=variances,
        discordance=discordance,
        discordance_pairs=pairs,
        accuracy=accuracy,
        changes=tuple(changes),
    )


def _settings(experiment: ExperimentConfig) -> Mapping[str, Hashable]:
    """What can change its result, but repeats and how many tasks."""
    plain = flat(to_plain(experiment))
    return {
        key: str(value)
        for key, value in plain.items()
        if is_setting(key) and key not in ("repeat", "suite.limit")
    }


def _key(settings: Mapping[str, Hashable]) -> Hashable:
    return tuple(sorted(settings.items()))


def _comparisons(settings: Sequence[Mapping[str, Hashable]]) -> int:
    """The most pairs of configurations that differ in one group of the configuration alone."""
    families: Counter[str] = Counter()
    for a, b in combinations({_key(own): own for own in settings}.values(), 2):
        groups = {key.partition(".")[0] for key in a.keys() | b.keys() if a.get(key) != b.get(key)}
        if len(groups) == 1:
            families[groups.pop()] += 1
    return max(families.values(), default=0)


def _more_tasks(
    experiments: Sequence[ExperimentConfig], tasks: int | None
) -> tuple[str, int] | None:
    """A larger ``suite.limit`` and the tasks that it gives; None where there are no more."""
    first = experiments[0]
    if tasks is None or first.suite.limit is None or first.suite.task_ids is not None:
        return None
    whole = replace(first, suite=replace(first.suite, limit=None))
    most = tasks_of(whole, *suites_of([whole]))
    if most is None or most <= tasks:
        return None
    more = _MORE_TASKS * tasks
    return ("null", most) if more >= most else (str(more), more)
