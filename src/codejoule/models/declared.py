"""What a checkpoint declares of its quantization, and the group size that is in force."""

from collections.abc import Mapping
from dataclasses import replace

from codejoule.config import ConfigError
from codejoule.config.schema import QuantConfig
from codejoule.domain import METHODS, Architecture, Quantization, linear_layers
from codejoule.models.quantization import quantizer_of
from codejoule.models.quantization.base import DeclaredQuantization
from codejoule.models.quantization.packed_config import LAYOUT_FIELDS, agreed, word

_OLDEST = "gptq"
"""Meant where neither a method nor a layout is named: files of their own came before there was
more than one method."""
_SIZES = (128, 64, 32)


def declared_quantization(config: Mapping[str, object]) -> DeclaredQuantization | None:
    """The meaning of a checkpoint's ``quantization_config``; None for an unquantized one.

    Raises `ConfigError` for a value that is not understood, for fields that contradict each
    other, and for a layout that no kernel here takes.
    """
    fields = config.get("quantization_config")
    if not isinstance(fields, dict):
        return None
    layout = agreed(fields, word, *LAYOUT_FIELDS)
    by_layout = (name for name, facts in METHODS.items() if layout in facts.layouts)
    method = agreed(fields, word, "quant_method", "method") or next(by_layout, _OLDEST)
    for name, facts in METHODS.items():
        if facts.packed and method in (name, *facts.written_as):
            found = quantizer_of(name).declared(fields)
            if found is not None:
                return found
    return DeclaredQuantization(method=method)


def refuse_differences(
    declared: DeclaredQuantization, quant: QuantConfig, *, where: str, remedy: str
) -> None:
    """Refuse a checkpoint that declares another quantization than `quant`; `ConfigError`."""
    if quant.bits is None:
        raise ConfigError(
            f"quant=none with {where}: its weights are quantized with {declared}; choose the "
            "quant that it has, or unquantized weights"
        )
    if found := declared.differences(quant):
        raise ConfigError(f"quant={quant.name} with {where}: {'; '.join(found)}; {remedy}")


def with_group_size(quant: QuantConfig, config: Mapping[str, object]) -> QuantConfig:
    """`quant` with the group size that is in force for the model of this ``config.json``.

    Where none is asked for: that of a quantized checkpoint, else the largest of 128, 64 and 32
    that divides the inputs of every layer. Raises `ConfigError` for one that does not.
    """
    facts = METHODS[quant.method.name]
    if not facts.packed or facts.group_sizes is not None:
        return quant
    declared = declared_quantization(config)
    if declared is not None:
        keep = quant.group_size is not None or declared.group_size is None
        return quant if keep else replace(quant, group_size=declared.group_size)
    inputs = input_widths(config)
    fitting = [size for size in _SIZES if all(width % size == 0 for width in inputs.values())]
    if quant.group_size is None:
        return replace(quant, group_size=fitting[0] if fitting else -1)
    if quant.group_size not in (-1, *fitting):
        name, width = next((n, w) for n, w in inputs.items() if w % quant.group_size)
        raise ConfigError(
            f"quant.group_size={quant.group_size}: {name}={width} of this model does not "
            f"divide by it; choose one of {', '.join(map(str, [*fitting, -1]))}, or null"
        )
    return quant


def quantization_of(quant: QuantConfig, config: Mapping[str, object]) -> Quantization:
    """How `quant` stores the model of this ``config.json``; raises as `with_group_size`."""
    chosen = with_group_size(quant, config)
    return Quantization(method=chosen.method.name, bits=chosen.bits, group_size=chosen.group_size)


def input_widths(config: Mapping[str, object]) -> dict[str, int]:
    """Inputs of the decoder's linear layers, under the names that ``config.json`` gives them."""

    def number(key: str) -> int:
        value = config.get(key)
        return value if isinstance(value, int) else 0

    heads = number("num_attention_heads")
    attended = number("v_head_dim") or number("head_dim")
    if not attended and heads:
        attended = number("hidden_size") // heads
    expert = number("moe_intermediate_size")
    widths = {
        "hidden_size": number("hidden_size"),
        "intermediate_size": number("intermediate_size"),
        "num_attention_heads x head size": heads * attended,
        "kv_lora_rank": number("kv_lora_rank"),
        "q_lora_rank": number("q_lora_rank"),
        "moe_intermediate_size": expert,
        "n_shared_experts x moe_intermediate_size": number("n_shared_experts") * expert,
    }
    try:
        # The width of an ordinary MLP stands in the configuration of models that have none.
        there = {layer.in_features for layer in linear_layers(Architecture.from_config(config))}
    except ValueError:
        there = set(widths.values())
    return {name: width for name, width in widths.items() if width and width in there}
