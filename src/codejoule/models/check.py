"""Contradictions in a model's configuration, found before anything is loaded."""

import json
from pathlib import Path

from codejoule.config import ConfigError
from codejoule.config.schema import (
    Device,
    Dtype,
    ModelConfig,
    QuantConfig,
    QuantSource,
    Weights,
)
from codejoule.domain import METHODS
from codejoule.models.declared import declared_quantization, refuse_differences
from codejoule.models.folder import has_experts, read_config
from codejoule.models.group_size import with_group_size
from codejoule.models.quantization import quantizer_of

BUNDLED_ROOT = Path(__file__).parent


def bundled_models() -> list[str]:
    """Names of the models whose weights ship with the package."""
    return sorted(path.parent.parent.name for path in BUNDLED_ROOT.glob("*/none/config.json"))


def bundled_calibration_texts(model: ModelConfig) -> list[str]:
    """Texts that the bundled model's quantized checkpoints were made with."""
    file = BUNDLED_ROOT / model.name / "calibration.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def check_model_config(
    model: ModelConfig, quant: QuantConfig, *, device: Device = Device.auto
) -> None:
    """Refuse what can be seen to contradict itself, without torch and without a network.

    Raises `ConfigError`. With ``device=auto`` the dtypes that only CUDA's kernels lack are
    left to `load_model`, which knows the device.
    """
    {
        Weights.hub: _check_hub,
        Weights.local: _check_local,
        Weights.bundled: _check_bundled,
        Weights.random: _check_random,
    }[model.weights](model, quant)
    if model.path is not None and model.weights is not Weights.local:
        raise ConfigError(
            f"model.path={model.path}: used only with model.weights=local, but "
            f"model.weights={model.weights.name}; add model.weights=local or drop model.path"
        )
    on = None if device is Device.auto else device.value
    quantizer_of(quant.method.name).check_kernel(quant, on)
    if device is Device.cuda:
        check_dtype(model, quant, "cuda")


def check_dtype(model: ModelConfig, quant: QuantConfig, device: str) -> None:
    """Refuse quantized weights with a dtype that the kernels on `device` lack."""
    allowed = METHODS[quant.method.name].cuda_dtypes
    if device == "cuda" and allowed and model.dtype.name not in (Dtype.auto.name, *allowed):
        raise ConfigError(
            f"model.dtype={model.dtype.name} with quant={quant.name}: quantized weights with a "
            f"dtype that {quant.method.name}'s CUDA kernels lack; use "
            f"model.dtype={' or '.join(allowed)}, or auto"
        )


def _check_hub(model: ModelConfig, quant: QuantConfig) -> None:
    if not model.id:
        raise ConfigError(
            f"model={model.name} has no repository on the hub (model.id=null); use "
            "model.weights=local model.path=FOLDER"
            + (", or model.weights=bundled" if model.name in bundled_models() else "")
        )
    refuse_quantized_experts(model.architecture, quant)
    if (
        quant.bits is not None
        and quant.source is QuantSource.hub
        and quant.name not in model.quantized
    ):
        published = ", ".join(sorted(model.quantized)) or "none"
        raise ConfigError(
            f"quant.source=hub with quant={quant.name}: no such checkpoint of {model.id} is "
            f"published (published: {published}); use quant.source=local to quantize here, or "
            f"name one with +model.quantized.{quant.name}=REPOSITORY"
        )
    if model.architecture and (
        quant.source is QuantSource.local or quant.name not in model.quantized
    ):
        with_group_size(quant, model.architecture)


def _check_local(model: ModelConfig, quant: QuantConfig) -> None:
    if model.path is None:
        raise ConfigError("model.weights=local needs the checkpoint's folder: model.path=FOLDER")
    folder = Path(model.path).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"model.path={model.path}: no such folder")
    if not (folder / "config.json").exists():
        raise ConfigError(
            f"model.path={model.path}: holds no config.json; a checkpoint's folder holds "
            "config.json, *.safetensors and the tokenizer's files"
        )
    config = read_config(folder)
    refuse_quantized_experts(config, quant)
    declared = declared_quantization(config)
    if declared is not None:
        remedy = "set these quant.* keys to what the folder has, or give an unquantized folder"
        refuse_differences(declared, quant, where=f"model.path={model.path}", remedy=remedy)
        return
    with_group_size(quant, config)
    if quant.bits is not None and quant.source is QuantSource.hub:
        raise ConfigError(
            f"quant.source=hub with model.path={model.path}: the folder is not quantized; "
            "use quant.source=local to quantize it here"
        )


def _check_bundled(model: ModelConfig, quant: QuantConfig) -> None:
    del quant
    names = bundled_models()
    if model.name not in names:
        raise ConfigError(
            f"model.weights=bundled with model={model.name}: its weights do not ship with "
            f"codejoule (bundled: {', '.join(names) or 'none'}); use model.weights=hub, local "
            "or random"
        )


def _check_random(model: ModelConfig, quant: QuantConfig) -> None:
    if not model.architecture:
        raise ConfigError(
            f"model.weights=random with model={model.name}: its architecture is not on file "
            "(model.architecture is empty); choose another model"
        )
    refuse_quantized_experts(model.architecture, quant)
    with_group_size(quant, model.architecture)


def refuse_quantized_experts(architecture: dict[str, object], quant: QuantConfig) -> None:
    """Refuse what leaves a mixture of experts unquantized, or cannot quantize it."""
    takes = quant.bits is None or quantizer_of(quant.method.name).takes_experts
    if not takes and has_experts(dict(architecture)):
        raise ConfigError(
            f"quant={quant.name} with a mixture of experts ({architecture.get('model_type')}): "
            f"{quant.method.name} cannot quantize its layers; use quant=gptq4, gptq8 or none"
        )
