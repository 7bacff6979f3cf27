"""Calibration of the estimator with runs that are in MLflow."""

import math
from functools import lru_cache
from typing import Any

from codejoule.analysis import load_runs
from codejoule.cli.estimate.forecast import (
    Calibration,
    ConfiguredWorkload,
    default_calibration,
    workload_of,
)
from codejoule.config import ConfigError, UserError
from codejoule.config.compose import compose_experiment
from codejoule.config.schema import ExperimentConfig
from codejoule.estimate import ENGINE_SPEEDS, POWER, MeasuredRun, calibrate_power, calibrate_speed
from codejoule.experiment.devices import known_card

_CONFIGURATION = ("params.model.name", "params.quant.name", "tags.codejoule.dtype")
_FIGURES = (
    "metrics.latency_s", "metrics.energy_gpu_j", "metrics.tasks", "metrics.prompt_tokens",
    "metrics.output_tokens",
)  # fmt: skip


def calibrate_with(name: str, uri: str, experiment: ExperimentConfig) -> Calibration:
    """Fit speed and power to the finished GPU runs of the MLflow experiment `name`.

    Runs count whose energy NVML's counter gave, on one card that is on file, with the configured
    engine and a model of ``conf/model`` in 16 bits, and beside no other job. Their sequences are
    taken to be of their mean length. What `experiment`'s engine is on file as is the prior,
    ``engine=graph`` where it is not.
    Raises `UserError` where no run can be used.
    """
    engine = experiment.engine.name.value
    frame = load_runs(uri, name).frame
    rows = [row for row in frame.to_dict("records") if row.get("params.engine.name") == engine]
    runs = [run for run in map(_measured, rows) if run is not None]
    if not runs:
        raise UserError(
            f"--calibrate {name}: none of its {len(frame)} finished runs is one of engine={engine} "
            "on one GPU that is on file (conf/gpu), with energy by NVML and a model of conf/model"
        )
    known = default_calibration(experiment)
    prior = ENGINE_SPEEDS["graph"] if known is None else known.engine
    fitted = calibrate_speed(runs, prior=prior)
    power = calibrate_power([(run, fitted) for run in runs], prior=POWER)
    return Calibration(engine=fitted, power=power, source=f"{len(runs)} runs of experiment {name}")


def _measured(row: dict[Any, Any]) -> MeasuredRun | None:
    """A run as the calibration needs it; None for one that is of no use."""
    card = known_card(str(row.get("tags.codejoule.gpu")))
    figures = [float(row.get(key) or math.nan) for key in _FIGURES]
    metered = row.get("tags.codejoule.energy_source") == "nvml"
    if card is None or not metered or row.get("tags.codejoule.concurrent"):
        return None
    if any(map(math.isnan, figures)):
        return None
    latency_s, energy_j, tasks, prompt_tokens, output_tokens = figures
    work = _work(*(str(row.get(column)) for column in _CONFIGURATION))
    if work is None or _changed(work, row):
        return None
    if card.peak_flop_per_s(work.quantization, dtype=work.dtype) is None:
        return None
    samples = tasks * int(row.get("params.generation.n_samples") or 1)
    batch = min(int(row["params.batch.size"]), round(samples))
    batches = math.ceil(samples / batch)
    return MeasuredRun(
        architecture=work.architecture,
        quantization=work.quantization,
        dtype=work.dtype,
        card=card,
        batch=batch,
        prompt_tokens=max(1, round(prompt_tokens / samples)),
        new_tokens=max(1, round(output_tokens / samples)),
        latency_s=latency_s / batches,
        energy_j=energy_j / batches,
    )


def _changed(work: ConfiguredWorkload, row: dict[Any, Any]) -> bool:
    """Whether the run's model differed from the one on file, e.g. in its layers."""
    ran = {key: row.get(f"params.model.architecture.{key}") for key in work.config}
    return any(
        ran[key] is not None and ran[key] != str(value)
        for key, value in work.config.items()
        if type(value) is int
    )


@lru_cache
def _work(model: str, quant: str, dtype: str) -> ConfiguredWorkload | None:
    """A configuration of ``conf/``; None where there is no such model or quantization."""
    try:
        return workload_of(
            compose_experiment([f"model={model}", f"quant={quant}", f"model.dtype={dtype}"])
        )
    except ConfigError:
        return None
