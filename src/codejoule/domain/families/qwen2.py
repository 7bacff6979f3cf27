"""Qwen2 and Qwen2.5: Llama with biases into queries, keys and values, and nowhere else."""

from collections.abc import Mapping
from typing import Any

from codejoule.domain.architecture import Family
from codejoule.domain.attention import Attention


def _read(fields: Mapping[str, Any], **heads: int) -> dict[str, Any]:
    # It has them without a field that says so.
    attention = Attention(**heads, qkv_bias=True, output_bias=False)
    return {"attention": attention, "mlp_bias": False}


FAMILY = Family(model_type="qwen2", read=_read, compiled_step=True)
