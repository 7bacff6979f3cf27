"""What a checkpoint's folder says of itself, read without loading it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codejoule.config import ConfigError
from codejoule.models.quantization_fields import (
    DeclaredQuantization,
    read_quantization,
    stated_fields,
)

INDEX = "model.safetensors.index.json"
QUANTIZATION_FILES = ("quantize_config.json", "quant_config.json")
"""Where quantizers keep what newer ones write into ``config.json``; gptqmodel reads them all."""
_EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts")
_EXPERT = re.compile(r"(.*\.experts\.)\d+(\..*)")


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's ``config.json``, with the ``quantization_config`` that may stand in a file of
    its own; raises `ConfigError` where it cannot be read, or where the two contradict each other.
    """
    file = folder / "config.json"
    config = _read_json(file)
    if not isinstance(config, dict) or "model_type" not in config:
        raise ConfigError(f"{file}: names no model_type; it is not a transformers checkpoint")
    try:
        for name in QUANTIZATION_FILES:
            if (folder / name).exists():
                _take_in(config, name, _read_json(folder / name))
        declared_quantization(config)
    except ConfigError as error:
        raise ConfigError(f"{folder}: {error}") from error
    return config


def _take_in(config: dict[str, Any], name: str, fields: Any) -> None:
    """Make the `fields` of a quantizer's own file the config's, where it has none."""
    if not isinstance(fields, dict):
        raise ConfigError(f"{name} holds no JSON object; correct or remove it")
    if not config.get("quantization_config"):
        config["quantization_config"] = fields
    here, there = stated_fields(config["quantization_config"]), stated_fields(fields)
    for key in here.keys() & there.keys():
        if here[key] != there[key]:
            raise ConfigError(
                f"config.json and {name} contradict each other ({key}: {here[key]} and "
                f"{there[key]}); keep the one that is true of the weights"
            )


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{file}: cannot be read ({error}); a checkpoint's folder holds config.json, "
            "*.safetensors and the tokenizer's files"
        ) from error


def weight_files(folder: Path) -> list[Path]:
    """The folder's safetensors files, sorted; empty where any of them is missing."""
    index = folder / INDEX
    if not index.exists():
        return sorted(folder.glob("*.safetensors"))
    names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    files = sorted(folder / name for name in names)
    return files if all(file.exists() for file in files) else []


def declared_quantization(config: Mapping[str, object]) -> DeclaredQuantization | None:
    """The ``quantization_config`` of a checkpoint; None for an unquantized one.

    Raises `ConfigError` for what is not understood.
    """
    fields = config.get("quantization_config")
    return read_quantization(fields) if isinstance(fields, dict) else None


def missing_experts(folder: Path, config: dict[str, Any]) -> list[str]:
    """Tensors that some experts of a layer have in `folder`, and others lack."""
    from safetensors import safe_open

    number = next((config[key] for key in _EXPERTS if config.get(key)), 0)
    names: set[str] = set()
    for file in weight_files(folder):
        with safe_open(file, framework="np") as tensors:
            names.update(tensors.keys())
    parts = {match.group(1, 2) for name in names if (match := _EXPERT.fullmatch(name))}
    wanted = {f"{before}{expert}{after}" for before, after in parts for expert in range(number)}
    return sorted(wanted - names)


def has_experts(config: dict[str, Any]) -> bool:
    """Whether a ``config.json`` describes a mixture of experts."""
    return any(config.get(key) for key in _EXPERTS)
