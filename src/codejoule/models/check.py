"""Contradictions in a model's configuration, found before anything is loaded."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codejoule.config import ConfigError, UserError
from codejoule.config.own_model import check_place
from codejoule.config.schema import (
    Device,
    Dtype,
    ModelConfig,
    QuantConfig,
    QuantSource,
    Weights,
)
from codejoule.domain import METHODS, Architecture, QuantizationMethod
from codejoule.domain.architecture import refuse_other_kinds
from codejoule.models.declared import declared_quantization, refuse_differences, with_group_size
from codejoule.models.folder import has_experts, read_config
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
    local = model.weights is Weights.local
    config = _local_config(model) if local else model.architecture
    try:
        refuse_other_kinds(config)
    except ValueError as error:
        raise ConfigError(f"model={model.name}: {error}") from error
    declared = declared_quantization(config) if local else None
    if model.weights is Weights.hub:
        _check_hub(model, quant)
    elif model.weights is Weights.bundled and model.name not in bundled_models():
        raise ConfigError(
            f"model.weights=bundled with model={model.name}: its weights do not ship with "
            f"codejoule (bundled: {', '.join(bundled_models()) or 'none'}); use "
            "model.weights=hub, local or random"
        )
    elif model.weights is Weights.random and not config:
        raise ConfigError(
            f"model.weights=random with model={model.name}: its architecture is not on file "
            "(model.architecture is empty); choose another model"
        )
    refuse_quantized_experts(config, quant)
    if declared is not None:
        remedy = "set these quant.* keys to what the folder has, or give an unquantized folder"
        refuse_differences(declared, quant, where=f"model.path={model.path}", remedy=remedy)
    elif local and quant.bits is not None and quant.source is QuantSource.hub:
        raise ConfigError(
            f"quant.source=hub with model.path={model.path}: the folder is not quantized; "
            "use quant.source=local to quantize it here"
        )
    elif config and published_checkpoint(model, quant) is None:
        with_group_size(quant, config)
    if local and config and declared is None:
        refuse_making(quant, f"model.path={model.path}")
    if model.path is not None and not local:
        raise ConfigError(
            f"model.path={model.path}: used only with model.weights=local, but "
            f"model.weights={model.weights.name}; write model={model.path}, or add "
            "model.weights=local, or drop model.path"
        )
    check_on_device(model, quant, None if device is Device.auto else device.value)


def check_on_device(model: ModelConfig, quant: QuantConfig, device: str | None) -> None:
    """Refuse a kernel that there is not on `device` (None: on any), and quantized weights with a
    dtype that the kernels there lack."""
    quantizer_of(quant.method.name).check_kernel(quant, device)
    allowed = METHODS[quant.method.name].cuda_dtypes
    if device == "cuda" and allowed and model.dtype.name not in (Dtype.auto.name, *allowed):
        raise ConfigError(
            f"model.dtype={model.dtype.name} with quant={quant.name}: quantized weights with a "
            f"dtype that {quant.method.name}'s CUDA kernels lack; use "
            f"model.dtype={' or '.join(allowed)}, or auto"
        )


def check_capability(quant: QuantConfig, device: str) -> None:
    """Refuse a method whose products `device` (``cpu`` or ``cuda``) has not; `UserError`."""
    facts = METHODS[quant.method.name]
    oldest = facts.capability
    if oldest is None:
        return
    found = "the CPU"
    if device == "cuda":
        import torch

        there = torch.cuda.get_device_capability()
        if there >= oldest:
            return
        found = f"this GPU (compute capability {there[0]}.{there[1]})"
    raise UserError(
        f"quant={quant.name}: {found} has no products of that kind; they need a GPU of compute "
        f"capability {oldest[0]}.{oldest[1]} or newer ({facts.oldest_gpus}). Choose another quant "
        f"({_alike(facts)}), or another device"
    )


def _alike(facts: QuantizationMethod) -> str:
    """What has as many bits and needs no such GPU."""
    four = facts.bits == (4,)
    return (
        "gptq4, awq and w4a16 have four bits, too"
        if four
        else ("torchao_int8 and gptq8 have eight bits, too")
    )


def published_checkpoint(model: ModelConfig, quant: QuantConfig) -> str | None:
    """Repository on the hub that holds what `quant` asks for; None where it is made here."""
    if model.weights is not Weights.hub or quant.source is QuantSource.local:
        return None
    return model.quantized.get(quant.name) if quant.bits is not None else None


def _check_hub(model: ModelConfig, quant: QuantConfig) -> None:
    if not model.id:
        raise ConfigError(
            f"model={model.name} has no repository on the hub (model.id=null); use "
            "model.weights=local model.path=FOLDER"
            + (", or model.weights=bundled" if model.name in bundled_models() else "")
        )
    if model.architecture and published_checkpoint(model, quant) is None:
        refuse_making(quant, f"model={model.name}")
    wanted = quant.bits is not None and quant.source is QuantSource.hub
    if wanted and quant.name not in model.quantized:
        published = ", ".join(sorted(model.quantized)) or "none"
        raise ConfigError(
            f"quant.source=hub with quant={quant.name}: no such checkpoint of {model.id} is "
            f"published (published: {published}); use quant.source=local to quantize here, or "
            f"name one with +model.quantized.{quant.name}=REPOSITORY"
        )


def refuse_making(quant: QuantConfig, of: str) -> None:
    """Refuse unquantized weights where nothing here can make `quant` of them; `ConfigError`."""
    facts = METHODS[quant.method.name]
    if facts.packed and not facts.made_here:
        raise ConfigError(
            f"quant={quant.name} with {of}: such weights are not made here, and no checkpoint of "
            f"them is on file; name one with model=ORG/NAME or model=/path/to/folder, or with "
            f"+model.quantized.{quant.name}=ORG/NAME, or use model.weights=random"
        )


def _local_config(model: ModelConfig) -> dict[str, Any]:
    if model.path is None:
        raise ConfigError(
            "model.weights=local needs the checkpoint's folder: model.path=FOLDER, or a GGUF file"
        )
    place = Path(model.path).expanduser()
    check_place(place, f"model.path={model.path}")
    # What a GGUF file says takes seconds to read: whoever locates the weights reads it.
    return {} if place.is_file() else read_config(place)


def refuse_quantized_experts(architecture: Mapping[str, Any], quant: QuantConfig) -> None:
    """Refuse what leaves a mixture of experts unquantized, or cannot quantize it."""
    if quant.bits is None or not has_experts(architecture):
        return
    facts, kind = METHODS[quant.method.name], architecture.get("model_type")
    if not facts.experts:
        raise ConfigError(
            f"quant={quant.name} with a mixture of experts ({kind}): {quant.method.name} cannot "
            "quantize its layers; use quant=gptq4, gptq8 or none"
        )
    try:
        moe = Architecture.from_config(architecture).moe
    except ValueError:
        return  # of a family that is not known: what loads it says what it can
    if moe is not None and moe.bias and not facts.expert_biases:
        raise ConfigError(
            f"quant={quant.name} with experts that have biases ({kind}): {quant.method.name} knows "
            "none; use quant=mxfp4 (engine=vllm), in which they are published, or none"
        )
