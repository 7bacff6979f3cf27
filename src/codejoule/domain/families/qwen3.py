"""Qwen3: Llama without biases, with normalized queries and keys."""

from collections.abc import Mapping
from typing import Any

from codejoule.domain.architecture import Family
from codejoule.domain.attention import NormedAttention


def _read(fields: Mapping[str, Any], **heads: int) -> dict[str, Any]:
    bias = bool(fields.get("attention_bias", False))
    attention = NormedAttention(**heads, qkv_bias=bias, output_bias=bias)
    return {"attention": attention, "mlp_bias": False}


FAMILY = Family(model_type="qwen3", read=_read, compiled_step=True)
