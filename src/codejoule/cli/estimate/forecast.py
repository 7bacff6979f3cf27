"""Everything predicted of one configuration, calibrated with runs in MLflow where asked for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from codejoule import estimate
from codejoule.analysis import load_runs
from codejoule.config import ConfigError, UserError
from codejoule.config.compose import compose_experiment
from codejoule.config.schema import ExperimentConfig, ModelConfig, QuantConfig, Split, Weights
from codejoule.config.typed import choices
from codejoule.domain import Suite, Workload
from codejoule.experiment.devices import find_card, known_card, known_cards
from codejoule.models import check_model_config, describe_model
from codejoule.models.check import BUNDLED_ROOT, bundled_models
from codejoule.models.declared import quantization_of
from codejoule.models.folder import read_config
from codejoule.models.gguf import gguf_config
from codejoule.models.hub import fetch_config

_CONFIGURATION = ("params.model.name", "params.quant.name", "tags.codejoule.dtype")
_FIGURES = (
    "metrics.latency_s", "metrics.energy_gpu_j", "metrics.tasks", "metrics.prompt_tokens",
    "metrics.output_tokens",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredWorkload(Workload):
    """What is predicted for, and the configuration that says so."""

    experiment: ExperimentConfig
    """The configuration."""
    config: Mapping[str, Any]
    """The model's ``config.json``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The estimator's answers."""

    workload: ConfiguredWorkload
    """What was asked."""
    card: estimate.Card
    """The card it was asked for."""
    parameters: estimate.ParameterCount
    """Exact."""
    weights: estimate.WeightBytes
    """Exact."""
    cache_bytes: int
    """Of keys and values per token of a sequence; exact."""
    memory: estimate.MemoryEstimate
    """What a card must have."""
    largest_batch: int
    """Most sequences that the card holds; 0 for none."""
    decode: estimate.DecodeBound | None
    """A floor under the time of a step; None for one new token."""
    generation: estimate.GenerationEstimate | None
    """Time and energy of one batch; None for an engine or a card's peak rate that is not known."""
    calibration: str
    """Where the engine's speed and the card's power come from, or why there is none."""

    @property
    def fits(self) -> bool:
        """Whether the card's memory suffices."""
        return self.memory.total_bytes <= self.card.memory_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What the time and energy of a generation are predicted with."""

    engine: estimate.EngineSpeed
    """Speed of what runs the model."""
    power: estimate.PowerModel
    """Power of the card."""
    source: str
    """The measurements behind both, in words."""


def default_calibration(experiment: ExperimentConfig) -> Calibration | None:
    """What is on file for the configured engine; None where nothing is."""
    engine = estimate.ENGINE_SPEEDS.get(experiment.engine.name.value)
    if engine is None:
        return None
    return Calibration(engine=engine, power=estimate.POWER, source=estimate.MEASURED_WITH)


def forecast(
    experiment: ExperimentConfig,
    *,
    calibration: Calibration | None = None,
    suite: Suite | None = None,
) -> Forecast:
    """Ask the estimator; raises `ConfigError` for a model that it does not know, `UserError` for
    one that cannot be had. `calibration` replaces what is on file for the configured engine;
    `suite` is as in `workload_of`."""
    card = find_card(experiment.gpu)
    work = workload_of(experiment, suite=suite)
    calibration = calibration or default_calibration(experiment)
    generation = None
    try:
        if calibration is not None:
            generation = estimate.estimate_generation(
                work, card=card, engine=calibration.engine, power=calibration.power
            )
        return Forecast(
            workload=work,
            card=card,
            generation=generation,
            calibration=_source(experiment, calibration, generation is not None),
            parameters=estimate.count_parameters(work.architecture),
            weights=estimate.weight_bytes(work.architecture, work.quantization, dtype=work.dtype),
            cache_bytes=work.architecture.layers
            * work.architecture.attention.cached_width
            * work.cache_number_bytes,
            memory=estimate.memory_needed(work),
            largest_batch=estimate.largest_batch(work, memory_bytes=card.memory_bytes),
            decode=estimate.decode_bound(work, card=card),
        )
    except ValueError as error:
        raise ConfigError(
            f"model={experiment.model.name} with quant={experiment.quant.name}: {error}"
        ) from error


def _source(experiment: ExperimentConfig, calibration: Calibration | None, predicted: bool) -> str:
    engine = f"engine={experiment.engine.name.value}"
    if calibration is None:
        return f"no measurement of {engine} is on file; --calibrate EXPERIMENT takes your runs"
    if not predicted:
        return "the card's peak rate in this dtype is not known (gpu.peak_float16_flop_per_s=...)"
    return f"{engine} as calibrated with {calibration.source}"


def workload_of(
    experiment: ExperimentConfig, *, device: str = "cuda", suite: Suite | None = None
) -> ConfiguredWorkload:
    """What `experiment` asks to predict; `ConfigError` for a model that is not known. `suite` has
    its tasks, which tell the length of prompts for random weights: a token is then a byte."""
    model, config_of_suite = experiment.model, experiment.suite
    prompt_tokens = config_of_suite.prompt_tokens
    if suite is not None and model.weights is Weights.random:
        instruct = config_of_suite.split is Split.instruct
        texts = [t.instruct_prompt if instruct else t.complete_prompt for t in suite.tasks]
        prompt_tokens = max(len(text.encode()) for text in texts)
    try:
        config = _config_of(model)
        architecture, quantization, dtype = describe_model(
            None, replace(model, architecture=config), experiment.quant, device=device
        )
        return ConfiguredWorkload(
            experiment=experiment,
            config=config,
            architecture=architecture,
            quantization=quantization,
            dtype=dtype,
            batch=experiment.batch.size,
            prompt_tokens=prompt_tokens,
            new_tokens=experiment.generation.max_new_tokens
            or config_of_suite.limits.max_new_tokens,
            kv_dtype=experiment.engine.cache_dtype,
        )
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"model={model.name}: {error}") from error


def _config_of(model: ModelConfig) -> dict[str, Any]:
    """The model's ``config.json``: in its YAML, in its folder, with the bundled weights, or on the
    hub."""
    if model.weights is Weights.local:
        if model.path is None:
            raise ConfigError("model.weights=local needs the checkpoint's folder: model.path=...")
        place = Path(model.path).expanduser()
        return gguf_config(place) if place.is_file() else read_config(place)
    if model.architecture:
        return model.architecture
    if model.weights is Weights.bundled and model.name in bundled_models():
        return read_config(BUNDLED_ROOT / model.name / "none")
    if model.weights is Weights.hub and model.id is not None:
        remedy = "give a copy on this machine (model=/path/to/folder), or choose a preset"
        return read_config(fetch_config(model.id, model.revision, remedy=remedy))
    raise ConfigError(
        f"model={model.name}: its architecture is not on file (model.architecture is empty); give "
        "its folder: model=/path/to/folder"
    )


def remedies(found: Forecast) -> tuple[str, ...]:
    """Changes of one setting each with which it fits, as overrides; empty where none does."""
    changes = []
    if found.largest_batch:
        changes.append(f"batch.size={found.largest_batch} (or less)")
    if quants := _fitting_quantizations(found):
        changes.append(f"quant={', '.join(quants)}")
    cards = [
        card.name
        for card in known_cards()
        if card.memory_bytes >= found.memory.total_bytes and card.name != found.card.name
    ]
    if cards:
        changes.append(f"gpu={', '.join(cards)}")
    return tuple(changes)


def _fitting_quantizations(found: Forecast) -> list[str]:
    work = found.workload
    fitting = []
    for quant in choices("quant", QuantConfig):
        if quant.name == work.experiment.quant.name:
            continue
        try:
            check_model_config(work.experiment.model, quant)
            quantization = quantization_of(quant, work.config)
            needed = estimate.memory_needed(replace(work, quantization=quantization))
        except (ConfigError, ValueError):
            continue  # this model cannot be quantized so
        if needed.total_bytes <= found.card.memory_bytes:
            fitting.append(quant.name)
    return fitting


def calibrate_with(name: str, uri: str, experiment: ExperimentConfig) -> Calibration:
    """Fit speed and power to the finished GPU runs of the MLflow experiment `name`. Runs count
    whose energy NVML's counter gave, on one card that is on file, with the configured engine and a
    model of ``conf/model`` in 16 bits, and beside no other job. Their sequences are taken to be of
    their mean length. What `experiment`'s engine is on file as is the prior, ``engine=graph`` where
    it is not. Raises `UserError` where no run can be used."""
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
    prior = estimate.ENGINE_SPEEDS["graph"] if known is None else known.engine
    fitted = estimate.calibrate_speed(runs, prior=prior)
    power = estimate.calibrate_power([(run, fitted) for run in runs], prior=estimate.POWER)
    return Calibration(engine=fitted, power=power, source=f"{len(runs)} runs of experiment {name}")


def _measured(row: dict[Any, Any]) -> estimate.MeasuredRun | None:
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
    return estimate.MeasuredRun(
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
