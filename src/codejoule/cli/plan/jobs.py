"""What each job of a sweep is predicted to take."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from codejoule import estimate
from codejoule.cli.estimate.benchmark import (
    POWER_UNKNOWN,
    generation_of,
    suites_of,
    tasks_of,
    tasks_unknown,
)
from codejoule.cli.estimate.forecast import ConfiguredWorkload, default_calibration, workload_of
from codejoule.cli.plan.history import History, on_device
from codejoule.config import ConfigError, UserError
from codejoule.config.schema import DETECTED_GPU, Device, ExperimentConfig, Stage
from codejoule.domain import EnergySource, Suite
from codejoule.experiment.devices import find_card
from codejoule.experiment.run import run_name
from codejoule.measurement import Hardware, energy_sources


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
    """The estimator: generation alone, with answers of `answer_tokens`."""
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
    return [
        _planned(own, target, history, suite)
        for own, suite in zip(experiments, suites_of(experiments), strict=True)
    ]


def _planned(
    experiment: ExperimentConfig, target: Target, history: History, suite: Suite | None
) -> PlannedJob:
    if experiment.stage is Stage.finetune:
        return PlannedJob(
            name=run_name(experiment), experiment=experiment, tasks=None, basis=None,
            generation_s=None, other_s=None, energy_j=None, memory_bytes=None, fits=None,
            why="what training takes is not predicted",
        )  # fmt: skip
    tasks = tasks_of(experiment, suite)
    generation_s = other_s = energy_j = memory_bytes = fits = None
    basis, why = None, ""
    work: ConfiguredWorkload | None = None
    try:
        device = "cpu" if target.card is None else "cuda"
        work = workload_of(experiment, device=device, suite=suite)
        needed = estimate.memory_needed(work)
        memory_bytes = needed.allocated_bytes if target.card is None else needed.total_bytes
        fits = None if target.card is None else memory_bytes <= target.card.memory_bytes
    except (ConfigError, UserError, ValueError) as error:
        why = str(error)
    rates = history.rates(experiment)
    if tasks is None:
        why = tasks_unknown(experiment)
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
            why = "" if energy_j is not None else POWER_UNKNOWN
    return PlannedJob(
        name=run_name(experiment), experiment=experiment, tasks=tasks, basis=basis,
        generation_s=generation_s, other_s=other_s, energy_j=energy_j, memory_bytes=memory_bytes,
        fits=fits, why=why,
    )  # fmt: skip


def _estimated(
    experiment: ExperimentConfig, target: Target, work: ConfiguredWorkload, tasks: int
) -> tuple[float, float | None] | str:
    """Time [s] and energy [J] of all batches, or why they cannot be predicted."""
    no_run = "no earlier run of this configuration is in the store"
    if target.card is None:
        return f"the estimator knows GPUs alone, and {no_run}"
    calibration = default_calibration(experiment)
    if calibration is None:
        name = experiment.engine.name.value
        return f"no speed of engine={name} is on file, and {no_run}"
    answers = tasks * experiment.generation.n_samples
    return generation_of(work, answers, card=target.card, calibration=calibration)
