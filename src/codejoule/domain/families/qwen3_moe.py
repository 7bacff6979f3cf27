"""Qwen3's mixtures of experts: its attention, and experts in every layer."""

from collections.abc import Mapping
from typing import Any

from codejoule.domain.architecture import Family, MixtureOfExperts, read_count
from codejoule.domain.attention import NormedAttention


def _read(fields: Mapping[str, Any], **heads: int) -> dict[str, Any]:
    if fields.get("decoder_sparse_step", 1) != 1 or fields.get("mlp_only_layers"):
        raise ValueError(
            f"decoder_sparse_step={fields.get('decoder_sparse_step')}, "
            f"mlp_only_layers={fields.get('mlp_only_layers')}: the estimator knows experts in "
            "every layer alone"
        )
    bias = bool(fields.get("attention_bias", False))
    # The hub's files have the first name, transformers writes the second.
    key = "num_experts" if fields.get("num_experts") is not None else "num_local_experts"
    return {
        "attention": NormedAttention(**heads, qkv_bias=bias, output_bias=bias),
        "mlp_bias": False,
        "moe": MixtureOfExperts(
            routed=read_count(fields, key),
            active=read_count(fields, "num_experts_per_tok"),
            shared=0,
            intermediate_size=read_count(fields, "moe_intermediate_size"),
            first_dense_layers=0,
        ),
    }


FAMILY = Family(model_type="qwen3_moe", read=_read, compiled_step=False)
