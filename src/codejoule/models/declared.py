"""What a checkpoint's folder says of itself, read without loading it."""

import json
import re
from pathlib import Path
from typing import Any

from codejoule.config import ConfigError
from codejoule.config.schema import Method, QuantConfig

INDEX = "model.safetensors.index.json"
_EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts")
_EXPERT = re.compile(r"(.*\.experts\.)\d+(\..*)")


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's ``config.json``; raises `ConfigError` where it cannot be read."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{file}: cannot be read ({error}); a checkpoint's folder holds config.json, "
            "*.safetensors and the tokenizer's files"
        ) from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise ConfigError(f"{file}: names no model_type; it is not a transformers checkpoint")
    return config


def weight_files(folder: Path) -> list[Path]:
    """The folder's safetensors files, sorted; empty where any of them is missing."""
    index = folder / INDEX
    if not index.exists():
        return sorted(folder.glob("*.safetensors"))
    names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    files = sorted(folder / name for name in names)
    return files if all(file.exists() for file in files) else []


def declared_quantization(config: dict[str, Any]) -> dict[str, Any] | None:
    """The ``quantization_config`` of a checkpoint; None for an unquantized one."""
    declared = config.get("quantization_config")
    return declared if isinstance(declared, dict) else None


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


def differences(declared: dict[str, Any], quant: QuantConfig) -> list[str]:
    """Where a checkpoint's own words on its quantization differ from what was asked."""
    found: list[str] = []

    def compare(key: str, asked: object, there: object) -> None:
        if there is not None and asked != there:
            found.append(f"{key}: asked {asked}, the checkpoint has {there}")

    compare("method", quant.method.name, str(declared.get("quant_method", "")).lower())
    compare("bits", quant.bits, declared.get("bits"))
    if quant.group_size is not None:
        compare("group_size", quant.group_size, declared.get("group_size"))
    if quant.method is Method.gptq:
        compare("sym", quant.sym, declared.get("sym"))
        compare("desc_act", quant.desc_act, declared.get("desc_act"))
    elif "zero_point" in declared:
        compare("sym", quant.sym, not declared["zero_point"])
    return found
