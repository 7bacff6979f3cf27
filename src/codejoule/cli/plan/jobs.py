"""What each job of a sweep is predicted to take."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from codejoule import estimate
from codejoule.cli.estimate.forecast import default_calibration, workload_of
from codejoule.cli.plan.history import History, on_device
from codejoule.config import ConfigError, UserError
from codejoule.config.schema import DETECTED_GPU, Device, ExperimentConfig, Split, Weights
from codejoule.domain import EnergySource, Suite, Workload
from codejoule.experiment.devices import find_card
from codejoule.experiment.run import run_name
from codejoule.measurement import Hardware, energy_sources
from codejoule.suites import load_suite


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a sweep will run, or is imagined to."""

    card: estimate.Card | None
    """Its GPU; None for the CPU of this machine."""
    runs_there: str
    """MLflow filter of the runs on it."""
    source: EnergySource
    """What will give the energy of generation."""

    @property
    def name(self) -> str:
        """For a reader."""
        return "this machine's CPU" if self.card is None else self.card.name


def target_of(experiment: ExperimentConfig, hardware: Hardware) -> Target:
    """The card that ``gpu=`` names, else the one that is there, else the CPU."""
    named = experiment.gpu.name != DETECTED_GPU
    if experiment.device is Device.cpu or not (named or hardware.gpus):
        source, _ = energy_sources(experiment.meter, gpu=False)
        return Target(card=None, runs_there=on_device(None, socket.gethostname()), source=source)
    card = find_card(experiment.gpu)
    # The driver's name, which runs record.
    known = experiment.gpu.driver_names if named else [hardware.gpus[0].name]
    source, _ = energy_sources(experiment.meter, gpu=True)
    return Target(card=card, runs_there=on_device((known or [card.name])[0], None), source=source)


class Basis(Enum):
    """What a prediction rests on."""

    estimator = "estimator"
    """The estimator: generation alone, each answer as long as the limit on new tokens."""
    runs = "earlier runs"
    """Runs of the same configuration here, in proportion to the number of tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """A job and its prediction. What is not known is None."""

    name: str
    """As its run will be called."""
    experiment: ExperimentConfig
    """Its configuration."""
    tasks: int | None
    """Tasks; None for a suite whose file is not here and whose size is not on file."""
    basis: Basis | None
    """What its time and energy rest on; None where nothing tells them."""
    generation_s: float | None
    """Time of generation [s]."""
    other_s: float | None
    """Time beside it: loading, judging [s]; known from earlier runs alone."""
    energy_j: float | None
    """Energy of generation [J]."""
    memory_bytes: int | None
    """Memory that it needs of its device."""
    fits: bool | None
    """Whether the card has as much; None for a CPU."""
    why: str
    """Why something is not predicted; empty where all is."""


def plan_jobs(
    experiments: Sequence[ExperimentConfig], target: Target, history: History
) -> list[PlannedJob]:
    """Predict every job of a sweep."""
    suites: dict[str, Suite | None] = {}

    def suite_of(experiment: ExperimentConfig) -> Suite | None:
        """Its tasks; None for those of the hub: a plan downloads nothing."""
        config = experiment.suite
        if config.path is None and config.hub_id is not None:
            return None
        key = repr(config)
        if key not in suites:
            suites[key] = load_suite(config)
        return suites[key]

    return [_planned(own, target, history, suite_of(own)) for own in experiments]


def _planned(
    experiment: ExperimentConfig, target: Target, history: History, suite: Suite | None
) -> PlannedJob:
    tasks = tasks_of(experiment, suite)
    generation_s = other_s = energy_j = memory_bytes = fits = None
    basis, why = None, ""
    work: Workload | None = None
    try:
        work = _workload(experiment, target, suite)
        needed = estimate.memory_needed(work)
        memory_bytes = needed.allocated_bytes if target.card is None else needed.total_bytes
        fits = None if target.card is None else memory_bytes <= target.card.memory_bytes
    except (ConfigError, UserError, ValueError) as error:
        why = str(error)
    rates = history.rates(experiment)
    if tasks is None:
        why = f"how many tasks {experiment.suite.name} has is not on file: set suite.limit"
    elif rates is not None:
        basis = Basis.runs
        generation_s, energy_j = rates.per_task_s * tasks, rates.per_task_j * tasks
        other_s = rates.other_s + rates.per_task_other_s * tasks
    elif work is not None:
        found = _estimated(experiment, target, work, tasks)
        if isinstance(found, str):
            why = found
        else:
            basis, (generation_s, energy_j) = Basis.estimator, found
            why = "" if energy_j is not None else "the card's power limit is not on file"
    return PlannedJob(
        name=run_name(experiment), experiment=experiment, tasks=tasks, basis=basis,
        generation_s=generation_s, other_s=other_s, energy_j=energy_j, memory_bytes=memory_bytes,
        fits=fits, why=why,
    )  # fmt: skip


def tasks_of(experiment: ExperimentConfig, suite: Suite | None) -> int | None:
    """How many tasks a job has; None where that is not known."""
    config = experiment.suite
    if suite is not None:
        return len(suite.tasks)
    whole = config.tasks if config.task_ids is None else len(config.task_ids)
    if whole is None:
        return None
    return whole if config.limit is None else min(config.limit, whole)


def _workload(experiment: ExperimentConfig, target: Target, suite: Suite | None) -> Workload:
    """A batch of the job; with random weights a token of a prompt is a byte."""
    work = workload_of(experiment, device="cpu" if target.card is None else "cuda")
    if suite is None or experiment.model.weights is not Weights.random:
        return work
    instruct = experiment.suite.split is Split.instruct
    texts = [t.instruct_prompt if instruct else t.complete_prompt for t in suite.tasks]
    return replace(work, prompt_tokens=max(len(text.encode()) for text in texts))


def _estimated(
    experiment: ExperimentConfig, target: Target, work: Workload, tasks: int
) -> tuple[float, float | None] | str:
    """Time [s] and energy [J] of all batches, or why they cannot be predicted."""
    no_run = "no earlier run of this configuration is in the store"
    if target.card is None:
        return f"the estimator knows GPUs alone, and {no_run}"
    calibration = default_calibration(experiment)
    if calibration is None:
        name = experiment.engine.name.value
        return f"no speed of engine={name} is on file, and {no_run}"
    full, rest = divmod(tasks * experiment.generation.n_samples, experiment.batch.size)
    total_s, total_j = 0.0, 0.0
    for batches, size in ((full, experiment.batch.size), (1, rest)):
        if not batches or not size:
            continue
        found = estimate.estimate_generation(
            replace(work, batch=size),
            card=target.card,
            engine=calibration.engine,
            power=calibration.power,
        )
        if found is None:
            return f"the peak rate of {target.card.name} in this dtype is not on file"
        total_s += batches * found.latency_s
        total_j += batches * (found.energy_j or 0.0)
    return total_s, total_j or None
