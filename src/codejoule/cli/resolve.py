"""``hydra/sweeper=resolve``: from a space and a goal to jobs, from their runs to an answer."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codejoule.analysis import load_runs, read_tasks
from codejoule.cli.estimate.forecast import forecast
from codejoule.cli.plan.history import History, read_history, store_of
from codejoule.cli.plan.jobs import target_of
from codejoule.config import ConfigError, UserError
from codejoule.config.schema import (
    DETECTED_GPU,
    EngineConfig,
    EvaluatorName,
    ExperimentConfig,
    GpuConfig,
    Isolation,
    QuantSource,
    Weights,
)
from codejoule.domain import METHODS, EnergySource
from codejoule.domain.metrics import J_PER_KWH
from codejoule.experiment.plan import loaded_alike
from codejoule.experiment.sweep import Outcome, State
from codejoule.measurement import detect_hardware
from codejoule.statistics import (
    ASSUMED,
    REPEATS,
    RunVariance,
    moderated_variance,
    reference_variance,
)
from codejoule.statistics.race import Answer, Job, Question, Race, Rules
from codejoule.statistics.run_pairs import variance_words
from codejoule.suites import load_suite
from codejoule.tracking import prepare_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The keys of ``hydra.sweeper``, checked."""

    goal: Question
    """What is asked."""
    min_pass_at_1: float | None
    """pass@1 to reach (``least_energy``)."""
    max_kwh: float | None
    """Energy of a run of the whole suite to stay within (``best_pass``)."""
    margin: float
    """Difference of pass@1 that does not matter."""
    energy_margin: float
    """Relative difference of energy that does not matter."""
    first: int
    """Tasks of the first look, at least."""
    growth: float
    """How much larger the next look is."""
    repeats: int
    """Runs of a configuration at most."""
    run_sd: float | None
    """Standard deviation between runs of the logarithm of energy; None for what repeats in the
    store tell of each engine, else for the reference."""
    budget_kwh: float | None
    """Energy of all runs, loading included, after which no further one starts."""
    budget_s: float | None
    """Duration of all runs, the same."""
    jobs: int | None
    """Number of runs, the same."""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Options":
        """Raises `ConfigError` naming the key."""
        goals = [question.value for question in Question]
        if given["goal"] not in goals:
            raise _wrong("goal", given["goal"], f"choose one of {', '.join(goals)}")
        found = cls(**{**given, "goal": Question(given["goal"])})
        for goal, key, needed in (
            (Question.least_energy, "min_pass_at_1", "0 to 1"),
            (Question.best_pass, "max_kwh", "above 0 [kWh]"),
        ):
            value = getattr(found, key)
            if (found.goal is goal) != (value is not None):
                raise _wrong(
                    key, value, f"goal={goal.value} needs it ({needed}), and no other goal does"
                )
        ranges: dict[str, tuple[Callable[[float], bool], str]] = {
            "min_pass_at_1": (lambda x: 0 < x < 1, "must lie in (0, 1)"),
            "max_kwh": (lambda x: x > 0, "must be above 0 [kWh]"),
            "margin": (lambda x: 0 < x < 1, "must lie in (0, 1)"),
            "energy_margin": (lambda x: 0 < x < 1, "must lie in (0, 1)"),
            "first": (lambda x: x >= 2, "must be at least 2 tasks"),
            "growth": (lambda x: x > 1, "must be above 1"),
            "run_sd": (
                lambda x: x > 0,
                "must be above 0 (a share: 0.02 is 2 %), or null for what repeats in the store, or "
                "the reference, tell",
            ),
            "repeats": (lambda x: x >= 1, "must be at least 1"),
            "budget_kwh": (lambda x: x > 0, "must be above 0 [kWh], or null"),
            "budget_s": (lambda x: x > 0, "must be above 0 [s], or null"),
            "jobs": (lambda x: x >= 1, "must be at least 1, or null"),
        }
        for key, (is_good, why) in ranges.items():
            value = getattr(found, key)
            if value is not None and not is_good(value):
                raise _wrong(key, value, why)
        return found


def _wrong(key: str, value: object, why: str) -> ConfigError:
    return ConfigError(f"hydra.sweeper.{key}={'null' if value is None else value}: {why}")


class Resolver:
    """A space of configurations, its race, and what was spent on it."""

    def __init__(
        self,
        experiments: Sequence[ExperimentConfig],
        overrides: Sequence[Sequence[str]],
        options: Options,
        *,
        one_process: bool,
    ) -> None:
        """`one_process` says that jobs run one after the other in this process: a loaded model then
        stays for the next look, unless the configuration says otherwise."""
        self.options = options
        keeps = [one_process and own.isolation is Isolation.auto for own in experiments]
        self.experiments = [
            replace(own, isolation=Isolation.shared) if kept else own
            for own, kept in zip(experiments, keeps, strict=True)
        ]
        self.overrides = [
            [*own, *([f"isolation={Isolation.shared.value}"] if kept else [])]
            for own, kept in zip(overrides, keeps, strict=True)
        ]
        _check(self.experiments)
        first = self.experiments[0]
        self.tasks = len(load_suite(first.suite).tasks)
        self.shuffle = first.sweep.seed if first.suite.shuffle is None else first.suite.shuffle
        step = min(max(e.batch.size for e in self.experiments), self.tasks)
        limit_kwh, goal = options.max_kwh, options.min_pass_at_1
        self.between = _between(self.experiments, options)
        self.race = Race(
            [_predicted_j(experiment) for experiment in self.experiments],
            tasks=self.tasks,
            rules=Rules(
                question=options.goal,
                min_pass_at_1=math.nan if goal is None else goal,
                max_energy_j=math.nan if limit_kwh is None else limit_kwh * J_PER_KWH,
                margin=options.margin,
                energy_margin=options.energy_margin,
                first=math.ceil(options.first / step) * step,
                step=step,
                growth=options.growth,
                max_repeats=options.repeats,
            ),
            between=self.between,
        )
        self.runs = self.found = 0
        self.spent_j = 0.0
        self._load_j: dict[str, float] = {}
        self._loaded: str | None = None
        self._began_s = time.monotonic()
        self._asked: list[Job] = []
        self._waiting: list[Job] = []
        self._spent_up: str | None = None
        self._mark = ""

    def next(self, size: int | None) -> list[list[str]]:
        """Overrides of the jobs to launch now, at most `size`; none at the end."""
        self._waiting = self._waiting or self._together(self.race.ask(self._start_j))
        self._spent_up = self._exhausted() if self._waiting else None
        if self._spent_up is not None:
            return []
        size = size or len(self._waiting)
        self._asked, self._waiting = self._waiting[:size], self._waiting[size:]
        return [
            [
                *self.overrides[job.configuration],
                f"suite.shuffle={self.shuffle}",
                f"suite.limit={job.tasks}",
                f"suite.extends={job.before or 'null'}",
                f"repeat={job.repeat}",
            ]
            for job in self._asked
        ]

    def tell(self, outcomes: Sequence[Outcome | None]) -> None:
        """How the jobs ended that `next` gave, in that order; None for one that left no word. A
        configuration that fails is in question no longer."""
        for job, outcome in zip(self._asked, outcomes, strict=True):
            if outcome is None or outcome.state is State.failed or outcome.run_id is None:
                self.race.fail(job.configuration)
                continue
            self.runs += 1
            self.found += outcome.state is State.skipped
            before_j = self.race.spent_j(job)
            energy_j, passed, load_j = self._figures(outcome)
            self.race.tell(job, energy_j, passed)
            self._loaded = self._loads(job)
            if load_j:
                self._load_j[self._loaded] = load_j
            self.spent_j += float(energy_j.sum()) - before_j + load_j

    # What is loaded

    def _loads(self, job: Job) -> str:
        """What it takes over from a job that has loaded the same."""
        experiment = replace(self.experiments[job.configuration], repeat=job.repeat)
        alike = loaded_alike(experiment)
        # One that shares nothing has its own, for every look.
        return json.dumps(alike, sort_keys=True) if alike else f"{job}"

    def _start_j(self, job: Job) -> float:
        """What loading takes, where that is known and it is not loaded."""
        loads = self._loads(job)
        usual_j = self._usual_load_j()
        return 0.0 if loads == self._loaded else self._load_j.get(loads, usual_j)

    def _usual_load_j(self) -> float:
        return float(np.mean(list(self._load_j.values()))) if self._load_j else 0.0

    def _together(self, jobs: Sequence[Job]) -> list[Job]:
        """The same jobs, those with the same model, quantization and engine after one another. What
        is loaded comes first, then what has the cheapest job; the largest batch is first among
        them, because an engine is started for it. All are run before anything is judged, so the
        order decides nothing."""
        groups: dict[str, list[Job]] = {}
        for job in jobs:
            groups.setdefault(self._loads(job), []).append(job)
        order = sorted(groups, key=lambda loads: loads != self._loaded)
        sizes = [own.batch.size for own in self.experiments]
        return [
            job
            for loads in order
            for job in sorted(groups[loads], key=lambda job: -sizes[job.configuration])
        ]

    def _figures(self, outcome: Outcome) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Energy [J] (of generation, and of evaluation where known) and share of samples passed of
        each task, in the order of the tasks, and the energy of loading [J]."""
        tracking = self.experiments[0].tracking
        store = prepare_store(tracking)
        found = store.located([str(outcome.run_id)])
        if not found:
            raise UserError(
                f"{outcome.name} (run {outcome.run_id}) is on the tracking server, which does not "
                "answer, so its figures cannot be read; start the same command again when it does"
            )
        ((uri, ids),) = found.items()
        frame = load_runs(uri, store.experiment, run_ids=ids).frame
        figures, _ = read_tasks(frame, uri=uri)
        order = np.argsort(figures.order[0])
        energy_j = figures.energy_j[0] + np.nan_to_num(figures.evaluation_j[0])
        passed = figures.passed[0]
        if np.isnan(energy_j).any() or np.isnan(passed).any():
            raise UserError(
                f"{outcome.name} (run {outcome.run_id}): the energy or the verdict of "
                f"{int((np.isnan(energy_j) | np.isnan(passed)).sum())} of its {order.size} tasks "
                "is not known, so it cannot be compared; larger batches make windows that the "
                "counter resolves, and the run's log says what could not be judged"
            )
        # One that took over a loaded model has loaded none.
        load_j = float(np.nan_to_num(frame.get("metrics.energy_load_j", [0.0])[0]))
        if frame["tags.codejoule.energy_source"].iloc[0] == EnergySource.estimate.value:
            self._mark = "~"
        return energy_j[order], passed[order], load_j

    def _exhausted(self) -> str | None:
        have = {
            "budget_kwh": self.spent_j / J_PER_KWH,
            "budget_s": time.monotonic() - self._began_s,
            "jobs": float(self.runs),
        }
        for key, value in have.items():
            limit = getattr(self.options, key)
            if limit is not None and value >= limit:
                return f"hydra.sweeper.{key}={limit:g} is spent"
        return None

    # What was found

    def sentence(self) -> str:
        """What was decided, what was spent, and what the full grid would have taken."""
        answer = self.race.answer()
        sure = f"Decided at {100 * (1 - self.race.rules.error):.0f} %"
        if self._spent_up is not None:
            still = ", ".join(map(self.name, answer.open[:6]))
            more = f" and {len(answer.open) - 6} more" if len(answer.open) > 6 else ""
            sure = f"Not decided ({self._spent_up}; still in question: {still}{more})"
        return f"{sure}, {self._what(answer)}. {self._cost()} {self._assumed()}"

    def name(self, i: int) -> str:
        """Of a configuration, without what all have in common."""
        experiment = self.experiments[i]
        engine = experiment.engine.name.value
        parts = [experiment.model.name, experiment.quant.name, engine, f"b{experiment.batch.size}"]
        if engine == EngineConfig().name.value:
            parts.remove(engine)
        return " ".join(parts)

    def _what(self, answer: Answer) -> str:
        options = self.options
        asked = {
            Question.front: "the Pareto front of energy per task and pass@1",
            Question.least_energy: f"least energy with pass@1 of at least {options.min_pass_at_1}",
            Question.best_pass: f"best pass@1 within {options.max_kwh} kWh",
        }[options.goal]
        if not answer.chosen:
            return f"{asked}: none of the {self.race.k} configurations is shown to qualify"
        energy_j = self.race.energy_j()
        parts = [
            f"{self.name(i)} ({self._mark}{energy_j[i]:.3g} J per task, pass@1 "
            f"{self.race.seen[i].passed.mean():.3f} on {self.race.seen[i].tasks} of "
            f"{self.tasks} tasks)"
            for i in sorted(answer.chosen, key=lambda i: energy_j[i])
        ]
        said = f"{asked}: {', '.join(parts)}"
        for a, b, much in answer.ties:
            said += (
                f"; {self.name(a)} may take up to {100 * much:.1f} % more than "
                + (f"{self.name(b)}, which repeats did not tell apart" if a != b else "the limit")
            )  # fmt: skip
        return said

    def _cost(self) -> str:
        spent = f"{self.runs} runs took {self._mark}{self.spent_j / J_PER_KWH:.3g} kWh"
        if self.found:
            spent += f" ({self.found} of them had finished before)"
        energy_j, ran = self.race.energy_j(), [bool(s.runs) for s in self.race.seen]
        unknown = int(np.isnan(energy_j).sum())
        loads = {
            self._loads(Job(configuration=i, repeat=1, tasks=self.tasks, before=0))
            for i in np.flatnonzero(~np.isnan(energy_j))
        }
        load_j = sum(self._load_j.get(own, self._usual_load_j()) for own in loads)
        grid_j = float(np.nansum(energy_j)) * self.tasks + load_j
        rest = self.race.k - sum(ran)
        how = "measured energy per task x tasks"
        if rest > unknown:
            how += f"; {rest - unknown} by prediction, scaled by what was measured"
        least = "at least " if unknown else ""
        return (
            f"{spent}; the full grid, {self.race.k} runs of all {self.tasks} tasks, takes {least}"
            f"{self._mark}{grid_j / J_PER_KWH:.3g} kWh (estimate: {how})."
        )

    def _assumed(self) -> str:
        """What is taken of the variance between runs."""
        engines = [own.engine.name.value for own in self.experiments]
        of = dict(zip(engines, self.between, strict=True))
        told = [
            variance_words(own) + (f" ({engine})" if len(of) > 1 else "")
            for engine, own in of.items()
        ]
        return f"Energy: {'; '.join(told)}."


def _check(experiments: Sequence[ExperimentConfig]) -> None:
    first = experiments[0]
    for experiment in experiments:
        if (experiment.suite, experiment.generation) != (first.suite, first.generation):
            raise ConfigError(
                "hydra/sweeper=resolve compares configurations on the same tasks with the same "
                "decoding: suite and generation cannot be swept over"
            )
        if experiment.repeat != 1 or experiment.suite.extends is not None:
            raise ConfigError(
                "hydra/sweeper=resolve sets repeat and suite.extends itself; leave them away "
                "(hydra.sweeper.repeats limits the repeats)"
            )
        if experiment.generation.rounds > 1:
            raise ConfigError(
                f"generation.rounds={experiment.generation.rounds}: hydra/sweeper=resolve goes on "
                "with runs of fewer tasks (suite.extends), which repair rounds cannot; compare "
                "them in a usual sweep"
            )
        if experiment.evaluator.name is EvaluatorName.none:
            raise ConfigError(
                "evaluator=none: hydra/sweeper=resolve needs pass@1; choose evaluator=sandbox"
            )
        if experiment.model.weights is Weights.random:
            raise ConfigError(
                "model.weights=random: pass@1 is then meaningless, and hydra/sweeper=resolve "
                "rests on it"
            )
        if _calibrates_on_the_suite(experiment):
            raise ConfigError(
                f"quant={experiment.quant.name} of model={experiment.model.name} is quantized "
                "here with tasks that a run leaves out, which differ from look to look; set "
                "quant.calibration.path, or take a published checkpoint"
            )


def _calibrates_on_the_suite(experiment: ExperimentConfig) -> bool:
    model, quant = experiment.model, experiment.quant
    here = quant.source is QuantSource.local or quant.name not in model.quantized
    return (
        METHODS[quant.method.name].packed
        and model.weights is Weights.hub
        and here
        and quant.calibration.path is None
    )


def _predicted_j(experiment: ExperimentConfig) -> float:
    """Energy of a task [J], up to a common factor; NaN where the estimator has no word on it."""
    try:
        found = forecast(experiment).generation
    except (ConfigError, UserError):
        return math.nan
    if found is None or found.energy_j is None:
        return math.nan
    return found.energy_j / found.batch


def _between(experiments: Sequence[ExperimentConfig], options: Options) -> list[RunVariance]:
    """How much runs of each vary: as `codejoule plan` has it, from the store's own repeats on this
    device first."""
    if options.run_sd is not None:
        told = RunVariance(sd_log=options.run_sd, df=math.inf, source=ASSUMED)
        return [told] * len(experiments)
    first = replace(experiments[0], gpu=GpuConfig(name=DETECTED_GPU))
    target = target_of(first, detect_hardware())
    history = read_history(store_of(first.tracking), first.tracking.experiment, target.runs_there)
    return [_variance(history, own.engine.name.value, target.source.value) for own in experiments]


def _variance(history: History, engine: str, source: str) -> RunVariance:
    """By repeats, moderated by the reference: the bound of a variance from two or three repeats
    alone is so wide that it would leave fivefold differences open."""
    found, reference = history.variance(engine, source), reference_variance(engine, source)
    return moderated_variance(found, reference) if found.source == REPEATS else found
