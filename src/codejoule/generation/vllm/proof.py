"""What vLLM has loaded, compared with what was asked for."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from codejoule.config import UserError
from codejoule.config.schema import EngineConfig
from codejoule.domain import METHODS
from codejoule.generation.engine import ModelSource

_ROUTERS = ("gate", "router")
"""Last parts of the paths of what chooses experts. Most checkpoints leave it unquantized."""
_PLAIN = METHODS["none"].vllm_classes


def prove(found: Mapping[str, Any], source: ModelSource, config: EngineConfig) -> None:
    """Raises `UserError` for the first difference between what `found` says of the engine at work
    and what was asked for."""
    quant = source.quant
    layers = _linear(found)
    if not layers:
        raise _difference("linear layers", "some", "none that can be looked at")
    for layer in layers:
        kinds, there = _kinds(layer, quant.method.name), classes_of(layer)
        if not any(kind.lower() in there.lower() for kind in kinds):
            raise _difference(f"layer {layer['path']}", f"{kinds[0]} weights", there)
        if kinds == _PLAIN and layer["dtype"] not in (None, source.dtype):
            raise _difference(f"dtype of {layer['path']}", source.dtype, layer["dtype"])
        if kinds != METHODS[quant.method.name].vllm_classes:
            continue
        if quant.kernel not in ("auto", kernel_of(layer)):
            raise _difference(f"kernel of {layer['path']}", quant.kernel, kernel_of(layer))
        if quant.bits is not None and layer["bits"] not in (None, quant.bits):
            raise _difference(f"bits of {layer['path']}", quant.bits, layer["bits"])
        if layer["device"] not in (None, source.device):
            raise _difference(f"device of {layer['path']}", source.device, layer["device"])
    asked = {
        "dtype": source.dtype,
        "prefix_caching": bool(config.prefix_caching),
        "kv_dtype": config.kv_dtype or "auto",
        "tensor_parallel": config.tensor_parallel or 1,
        "enforce_eager": bool(config.enforce_eager),
        "speculative": None if config.speculative in (None, "none") else config.speculative,
    }
    if config.max_batched_tokens is not None:
        asked["max_batched_tokens"] = config.max_batched_tokens
    for name, value in asked.items():
        there = found[name]
        # fp8 has a longer name in some versions.
        if there != value and not (name == "kv_dtype" and str(there).startswith(str(value))):
            raise _difference(f"engine.{name}", value, there)


def _difference(what: str, asked: object, there: object) -> UserError:
    return UserError(
        f"engine=vllm: {what}: asked for {asked}, and vLLM has {there}; what it runs would be "
        "recorded under a wrong name. Ask for what it does, or choose another engine or quant"
    )


def _linear(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The layers between embedding and head."""
    return [each for each in found["layers"] if "Embedding" not in each["method"]]


def _kinds(layer: Mapping[str, Any], method: str) -> tuple[str, ...]:
    """Parts of names, one of which the class of a layer's weights must have."""
    facts = METHODS[method]
    if layer["path"].rpartition(".")[2] in _ROUTERS:
        return (*_PLAIN, *facts.vllm_classes) if facts.bits else _PLAIN
    return _PLAIN if facts.experts_only and not layer["experts"] else facts.vllm_classes


def classes_of(layer: Mapping[str, Any]) -> str:
    """vLLM's class for a layer's weights, with that of its scheme where it has one."""
    return "/".join(filter(None, (layer["method"], layer["scheme"])))


def kernel_of(layer: Mapping[str, Any]) -> str | None:
    """``machete`` of ``MacheteLinearKernel``; None where vLLM names none."""
    name = layer["kernel"]
    return None if name is None else str(name).removesuffix("LinearKernel").lower()


def model_facts(found: Mapping[str, Any], source: ModelSource) -> dict[str, Any]:
    """The same as ``model.json`` has it; layers that are alike but for their number as one entry
    with their count."""
    linear = _linear(found)
    kinds = Counter(
        "/".join(filter(None, (classes_of(layer), layer["kernel"]))) for layer in linear
    )
    plain = sum(1 for layer in linear if _PLAIN[0] in layer["method"])
    alike: Counter[tuple[tuple[str, Any], ...]] = Counter()
    for layer in found["layers"]:
        path = ".".join("N" if part.isdigit() else part for part in layer["path"].split("."))
        alike[tuple({**layer, "path": path}.items())] += 1
    kernels = sorted({kernel for layer in linear if (kernel := kernel_of(layer)) is not None})
    quantized = source.quant.bits is not None
    whole = all(layer["dtype"] is not None for layer in linear)
    return {
        "proven": True,
        "architecture": found["architecture"],
        # vLLM's CPU kernels keep weights where they cannot be counted.
        "n_parameters": sum(found["numbers"].values()) if whole and not quantized else None,
        "memory_bytes": found["memory_bytes"] if whole else None,
        "dtype": found["dtype"],
        "device": source.device,
        "attention": ", ".join(found["attention"]),
        "context_tokens": source.context_tokens,
        "kernel": ", ".join(kernels) if quantized else None,
        "bits": source.quant.bits,
        "group_size": source.quant.group_size,
        "linear_quantized": len(linear) - plain,
        "linear_unquantized": plain,
        "kernels": dict(kinds),
        "layers": [{**dict(facts), "count": count} for facts, count in alike.items()],
    }
