"""Llama: grouped-query attention, one gated MLP per layer, biases where the configuration says."""

from collections.abc import Mapping
from typing import Any

from codejoule.domain.architecture import Family
from codejoule.domain.attention import Attention


def _read(fields: Mapping[str, Any], **heads: int) -> dict[str, Any]:
    bias = bool(fields.get("attention_bias", False))
    return {
        "attention": Attention(**heads, qkv_bias=bias, output_bias=bias),
        "mlp_bias": bool(fields.get("mlp_bias", False)),
    }


FAMILY = Family(model_type="llama", read=_read, compiled_step=True)
