"""Several forecasts as one table, or as JSON: what fits where, and what a benchmark then takes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from codejoule.cli.estimate.benchmark import (
    POWER_UNKNOWN,
    answer_tokens,
    generation_of,
    suites_of,
    tasks_of,
    tasks_unknown,
)
from codejoule.cli.estimate.forecast import Calibration, default_calibration, forecast
from codejoule.config import ConfigError, UserError
from codejoule.config.relevance import flat
from codejoule.config.schema import ExperimentConfig
from codejoule.config.typed import to_plain
from codejoule.domain import SCHEMA_VERSION, Suite
from codejoule.domain.metrics import J_PER_KWH
from codejoule.estimate import MEASURED_WITH

KNOWN_ERROR = (
    "Predictions were checked on an H200. Those of unquantized models were within 22 % of the "
    "measured time and within 19 % of the energy. Models in 4 bits that decode several sequences "
    "at once take up to twice the predicted time and energy."
)
"""How far predictions with the figures on file were off where they were checked."""

_NAMED = 3
"""Configurations that a line names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One configuration on one card. What is not known is None."""

    settings: Mapping[str, str]
    """Its model, quantization, batch size and card, and by what it differs from the others."""
    tasks: int | None
    """Tasks of the benchmark."""
    prompt_tokens: int
    """Length of a prompt."""
    answer_tokens: int
    """New tokens of an answer."""
    memory_bytes: int | None = None
    """Memory that it needs with answers as long as their limit."""
    fits: bool | None = None
    """Whether the card has as much."""
    energy_per_token_j: float | None = None
    """Energy of the card per new token [J]."""
    energy_per_task_j: float | None = None
    """The same per answer [J]."""
    hours: float | None = None
    """Time of generation for the whole benchmark [h]."""
    energy_kwh: float | None = None
    """Energy of that [kWh]."""
    why: str = ""
    """Why something is not predicted; empty where all is."""


def predict(
    experiments: Sequence[ExperimentConfig], calibrations: Mapping[str, Calibration]
) -> list[Line]:
    """A line for each configuration, in their order. `calibrations`, by engine, replace what is on
    file."""
    suites = suites_of(experiments)
    return [
        _line(own, settings, suite, calibrations.get(own.engine.name.value))
        for own, settings, suite in zip(experiments, _settings(experiments), suites, strict=True)
    ]


def _settings(experiments: Sequence[ExperimentConfig]) -> list[dict[str, str]]:
    """The columns that tell configurations apart. A group is told by its name, and by those of its
    keys that the name does not settle."""
    plain = [
        {key: "null" if value is None else str(value) for key, value in flat(to_plain(own)).items()}
        for own in experiments
    ]
    columns = {
        "model": "model.name",
        "quant": "quant.name",
        "batch": "batch.size",
        "gpu": "gpu.name",
    }
    keys = dict.fromkeys(key for own in plain for key in own)
    for key in sorted(keys, key=lambda key: not key.endswith(".name")):
        group = key.partition(".")[0]
        told = [own for own in columns.values() if own.partition(".")[0] == group]
        values: dict[tuple[str | None, ...], set[str | None]] = {}
        for own in plain:
            values.setdefault(tuple(own.get(name) for name in told), set()).add(own.get(key))
        if any(len(different) > 1 for different in values.values()):
            columns[group if key == f"{group}.name" else key] = key
    return [{name: own.get(key, "null") for name, key in columns.items()} for own in plain]


def _line(
    experiment: ExperimentConfig,
    settings: Mapping[str, str],
    suite: Suite | None,
    calibration: Calibration | None,
) -> Line:
    tasks, answer = tasks_of(experiment, suite), answer_tokens(experiment)
    line = Line(
        settings=settings,
        tasks=tasks,
        prompt_tokens=experiment.suite.prompt_tokens,
        answer_tokens=answer,
    )
    try:
        found = forecast(experiment, calibration=calibration, suite=suite)
    except (ConfigError, UserError) as error:
        return replace(line, why=str(error))
    work = found.workload
    line = replace(
        line,
        prompt_tokens=work.prompt_tokens,
        memory_bytes=found.memory.total_bytes,
        fits=found.fits,
    )
    if not found.fits:
        most = f"batch.size={found.largest_batch} at most" if found.largest_batch else "no batch"
        return replace(line, why=f"it needs more memory than the card has ({most} fits)")
    engine = calibration or default_calibration(experiment)
    if found.generation is None or engine is None:
        return replace(line, why=found.calibration)
    samples = experiment.generation.n_samples
    answers = work.batch if tasks is None else tasks * samples
    generated = generation_of(work, answers, card=found.card, calibration=engine)
    if isinstance(generated, str):
        return replace(line, why=generated)
    time_s, energy_j = generated
    return replace(
        line,
        energy_per_token_j=energy_j and energy_j / answers / answer,
        energy_per_task_j=energy_j and energy_j / answers * samples,
        hours=None if tasks is None else time_s / 3600,
        energy_kwh=None if tasks is None or energy_j is None else energy_j / J_PER_KWH,
        why=tasks_unknown(experiment) if tasks is None else "" if energy_j else POWER_UNKNOWN,
    )


def as_table(lines: Sequence[Line], source: str, notes: Sequence[str]) -> str:
    """What takes least comes first, what does not fit last. `source` is what time and energy are
    calibrated with."""
    on_file = source == MEASURED_WITH
    names = [*lines[0].settings]
    head = (*names, "memory", "fits", "J/token", "J/task", "hours", "kWh")
    ranked = sorted(
        lines,
        key=lambda line: (line.fits is not True, line.energy_kwh or line.energy_per_task_j or 1e99),
    )
    rows = [head, *map(_row, ranked)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    words = len(names)
    text = [
        "  ".join(
            cell.ljust(width) if i < words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(
        [
            f"Predicted for {_what(lines)}; everything but memory is an estimate.",
            "",
            *text,
            "",
            "memory: with every answer at its limit of new tokens. hours, kWh: generation alone, "
            "without loading and judging.",
            f"Time and energy: calibrated with {source}." + (f" {KNOWN_ERROR}" if on_file else ""),
            *_not_predicted(lines),
            *notes,
        ]
    )


def _not_predicted(lines: Sequence[Line]) -> list[str]:
    """A sentence for each reason, with the first few that it holds for."""
    of: dict[str, list[str]] = {}
    for line in lines:
        if line.why:
            of.setdefault(line.why, []).append(" ".join(line.settings.values()))
    return [
        f"Not predicted for {', '.join(names[:_NAMED])}"
        + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        + f": {reason}."
        for reason, names in of.items()
    ]


def as_json(lines: Sequence[Line], source: str, notes: Sequence[str]) -> str:
    """The same in the order of the sweep, units in the names."""
    report = {
        "schema_version": SCHEMA_VERSION,
        "estimate": True,
        "calibration": f"calibrated with {source}",
        "known_error": KNOWN_ERROR if source == MEASURED_WITH else None,
        "notes": list(notes),
        "configurations": [_facts(line) for line in lines],
    }
    return json.dumps(report, indent=2)


def _facts(line: Line) -> dict[str, Any]:
    return {
        **line.settings,
        "batch": int(line.settings["batch"]),
        "tasks": line.tasks,
        "prompt_tokens": line.prompt_tokens,
        "answer_tokens": line.answer_tokens,
        "memory_bytes": line.memory_bytes,
        "fits": line.fits,
        "energy_per_output_token_j": line.energy_per_token_j,
        "energy_per_task_j": line.energy_per_task_j,
        "hours": line.hours,
        "energy_kwh": line.energy_kwh,
        "not_predicted": line.why or None,
    }


def _what(lines: Sequence[Line]) -> str:
    """E.g. ``1,140 tasks, prompts of 660 and answers of 373 tokens``."""
    figures = []
    for name in ("tasks", "prompt_tokens", "answer_tokens"):
        found = sorted({getattr(line, name) or 0 for line in lines})
        ends = f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"
        figures.append(ends if found[-1] else "an unknown number of")
    tasks, prompt, answer = figures
    return f"{tasks} tasks, prompts of {prompt} and answers of {answer} tokens"


def _row(line: Line) -> tuple[str, ...]:
    memory = "-" if line.memory_bytes is None else f"{line.memory_bytes / 1e9:,.1f} GB"
    fits = "-" if line.fits is None else "yes" if line.fits else "no"
    figures = (line.energy_per_token_j, line.energy_per_task_j, line.hours, line.energy_kwh)
    return (*line.settings.values(), memory, fits, *map(_figure, figures))


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"~{value:,.0f}" if value >= 100 else f"~{value:#.3g}".rstrip(".")
