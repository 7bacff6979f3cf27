"""DeepSeek-V2: latent attention, and a mixture of experts in all but the first layers."""

from collections.abc import Mapping
from typing import Any

from codejoule.domain.architecture import Family, MixtureOfExperts, read_count, read_heads
from codejoule.domain.attention import LatentAttention


def _read(fields: Mapping[str, Any]) -> dict[str, Any]:
    bias = bool(fields.get("attention_bias", False))
    without_latent = fields.get("q_lora_rank") is None
    attention = LatentAttention(
        **read_heads(fields),
        qkv_bias=bias,
        output_bias=bias,
        kv_lora_rank=read_count(fields, "kv_lora_rank"),
        q_lora_rank=None if without_latent else read_count(fields, "q_lora_rank"),
        qk_nope_head_dim=read_count(fields, "qk_nope_head_dim"),
        qk_rope_head_dim=read_count(fields, "qk_rope_head_dim"),
        v_head_dim=read_count(fields, "v_head_dim"),
    )
    return {
        "attention": attention,
        "mlp_bias": bool(fields.get("mlp_bias", False)),
        "moe": _experts(fields),
    }


def _experts(fields: Mapping[str, Any]) -> MixtureOfExperts:
    if fields.get("moe_layer_freq", 1) != 1:
        raise ValueError(
            f"moe_layer_freq={fields['moe_layer_freq']}: the estimator, like transformers, knows "
            "experts in every layer after the first dense ones"
        )
    layers = read_count(fields, "num_hidden_layers")
    dense = int(fields.get("first_k_dense_replace", 0))
    if not 0 <= dense <= layers:
        raise ValueError(f"first_k_dense_replace={dense}: must lie between 0 and {layers}")
    return MixtureOfExperts(
        routed=read_count(fields, "n_routed_experts"),
        active=read_count(fields, "num_experts_per_tok"),
        shared=int(fields.get("n_shared_experts") or 0),
        intermediate_size=read_count(fields, "moe_intermediate_size"),
        first_dense_layers=dense,
    )


FAMILY = Family(model_type="deepseek_v2", read=_read, compiled_step=False)
