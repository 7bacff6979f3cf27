"""Everything predicted of one configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.config import ConfigError
from codejoule.config.schema import (
    ExperimentConfig,
    ModelConfig,
    Weights,
)
from codejoule.domain import Architecture, Workload, dtype_in_force
from codejoule.experiment.cards import find_card

if TYPE_CHECKING:
    from codejoule.estimate import (
        Card,
        DecodeBound,
        EngineSpeed,
        GenerationEstimate,
        MemoryEstimate,
        ParameterCount,
        PowerModel,
        WeightBytes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredWorkload(Workload):
    """What is predicted for, and the configuration that says so."""

    experiment: ExperimentConfig
    """The configuration."""
    config: Mapping[str, Any]
    """The model's ``config.json``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The estimator's answers."""

    workload: ConfiguredWorkload
    """What was asked."""
    card: "Card"
    """The card it was asked for."""
    parameters: "ParameterCount"
    """Exact."""
    weights: "WeightBytes"
    """Exact."""
    kv_cache_bytes_per_token: int
    """Exact, per sequence."""
    kv_cache_expanded_bytes_per_token: int
    """The same where latent attention's keys and values are cached expanded."""
    memory: "MemoryEstimate"
    """What a card must have."""
    largest_batch: int
    """Most sequences that the card holds; 0 for none."""
    decode: "DecodeBound | None"
    """A floor under the time of a step; None for one new token."""
    generation: "GenerationEstimate | None"
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

    engine: "EngineSpeed"
    """Speed of what runs the model."""
    power: "PowerModel"
    """Power of the card."""
    source: str
    """The measurements behind both, in words."""


def default_calibration(experiment: ExperimentConfig) -> Calibration | None:
    """What is on file for the configured engine; None where nothing is."""
    from codejoule.estimate import ENGINE_SPEEDS, POWER

    engine = ENGINE_SPEEDS.get(experiment.engine.name.value)
    if engine is None:
        return None
    return Calibration(engine=engine, power=POWER, source="two or three runs on one H200")


def predict(experiment: ExperimentConfig, *, calibration: Calibration | None = None) -> Prediction:
    """Ask the estimator; raises `ConfigError` for a model that it does not know.

    `calibration` replaces what is on file for the configured engine.
    """
    from codejoule import estimate

    card = find_card(experiment.gpu)
    work = workload_of(experiment)
    calibration = calibration or default_calibration(experiment)
    generation = None
    try:
        if calibration is not None:
            generation = estimate.estimate_generation(
                work, card=card, engine=calibration.engine, power=calibration.power
            )
        return Prediction(
            workload=work,
            card=card,
            generation=generation,
            calibration=_source(experiment, calibration, generation is not None),
            parameters=estimate.count_parameters(work.architecture),
            weights=estimate.weight_bytes(work.architecture, work.quantization, dtype=work.dtype),
            kv_cache_bytes_per_token=estimate.kv_cache_bytes_per_token(
                work.architecture, dtype=work.dtype
            ),
            kv_cache_expanded_bytes_per_token=estimate.expanded_cache_bytes_per_token(
                work.architecture, dtype=work.dtype
            ),
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


def workload_of(experiment: ExperimentConfig) -> ConfiguredWorkload:
    """What `experiment` asks to predict; `ConfigError` for a model that is not known."""
    from codejoule.models.group_size import quantization_of

    model, suite = experiment.model, experiment.suite
    try:
        config = _config_of(model)
        architecture = Architecture.from_config(config)
        quantization = quantization_of(experiment.quant, config)
        return ConfiguredWorkload(
            experiment=experiment,
            config=config,
            architecture=architecture,
            quantization=quantization,
            dtype=dtype_in_force(
                model.dtype.name, quantization.method, device="cuda", own=architecture.dtype
            ),
            batch=experiment.batch.size,
            prompt_tokens=suite.prompt_tokens,
            new_tokens=experiment.generation.max_new_tokens or suite.limits.max_new_tokens,
        )
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"model={model.name}: {error}") from error


def _config_of(model: ModelConfig) -> dict[str, Any]:
    """The model's ``config.json``: in its YAML, in its folder, or with the bundled weights."""
    from codejoule.models.check import BUNDLED_ROOT, bundled_models
    from codejoule.models.folder import read_config

    if model.weights is Weights.local:
        if model.path is None:
            raise ConfigError("model.weights=local needs the checkpoint's folder: model.path=...")
        return read_config(Path(model.path).expanduser())
    if model.architecture:
        return model.architecture
    if model.weights is Weights.bundled and model.name in bundled_models():
        return read_config(BUNDLED_ROOT / model.name / "none")
    raise ConfigError(
        f"model={model.name}: its architecture is not on file (model.architecture is empty); give "
        "its folder: model.weights=local model.path=FOLDER"
    )
