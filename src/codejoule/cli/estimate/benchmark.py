"""What a whole job takes: its tasks, its answers and its batches."""

from collections.abc import Sequence
from dataclasses import replace

from codejoule import estimate
from codejoule.cli.estimate.forecast import Calibration, ConfiguredWorkload
from codejoule.config.schema import ExperimentConfig, Weights
from codejoule.domain import Suite
from codejoule.suites import load_suite

POWER_UNKNOWN = "the card's power limit is not on file"
"""Why time is predicted without energy."""


def suites_of(experiments: Sequence[ExperimentConfig]) -> list[Suite | None]:
    """The tasks of each job; None for those of the hub: a prediction downloads nothing."""
    loaded: dict[str, Suite | None] = {}
    for config in (own.suite for own in experiments):
        if repr(config) not in loaded:
            of_hub = config.path is None and config.hub_id is not None
            loaded[repr(config)] = None if of_hub else load_suite(config)
    return [loaded[repr(own.suite)] for own in experiments]


def tasks_of(experiment: ExperimentConfig, suite: Suite | None) -> int | None:
    """How many tasks a job has; None where that is not known."""
    config = experiment.suite
    if suite is not None:
        return len(suite.tasks)
    whole = config.tasks if config.task_ids is None else len(config.task_ids)
    if whole is None:
        return None
    return whole if config.limit is None else min(config.limit, whole)


def tasks_unknown(experiment: ExperimentConfig) -> str:
    """What to say where `tasks_of` is None."""
    return f"how many tasks {experiment.suite.name} has is not on file (suite.tasks=... tells it)"


def answer_tokens(experiment: ExperimentConfig) -> int:
    """Predicted length of an answer [tokens]. Random weights never end one before its limit."""
    suite = experiment.suite
    limit = experiment.generation.max_new_tokens or suite.limits.max_new_tokens
    if suite.answer_tokens is None or experiment.model.weights is Weights.random:
        return limit
    return min(suite.answer_tokens, limit)


def generation_of(
    work: ConfiguredWorkload, answers: int, *, card: estimate.Card, calibration: Calibration
) -> tuple[float, float | None] | str:
    """Time [s] and energy [J] of generating so many answers in batches, or why they cannot be
    predicted. The energy is None for a card whose power limit is not known."""
    full, rest = divmod(answers, work.batch)
    total_s, total_j = 0.0, 0.0
    for batches, size in ((full, work.batch), (1, rest)):
        if not batches or not size:
            continue
        found = estimate.estimate_generation(
            replace(work, batch=size, new_tokens=answer_tokens(work.experiment)),
            card=card,
            engine=calibration.engine,
            power=calibration.power,
        )
        if found is None:
            return f"the peak rate of {card.name} in this dtype is not on file"
        total_s += batches * found.latency_s
        total_j += batches * (found.energy_j or 0.0)
    return total_s, total_j or None
