"""Which weights share a scale."""

from collections.abc import Mapping
from dataclasses import replace

from codejoule.config import ConfigError
from codejoule.config.schema import QuantConfig
from codejoule.domain import METHODS, Quantization
from codejoule.models.declared import declared_quantization

_SIZES = (128, 64, 32)


def with_group_size(quant: QuantConfig, config: Mapping[str, object]) -> QuantConfig:
    """`quant` with the group size that is in force for the model of this ``config.json``.

    Where none is asked for: that of a quantized checkpoint, else the largest of 128, 64 and 32
    that divides the inputs of every layer. Raises `ConfigError` for one that does not.
    """
    if not METHODS[quant.method.name].packed:
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
    return {name: width for name, width in widths.items() if width}
