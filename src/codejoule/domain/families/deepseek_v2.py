"""DeepSeek-V2: latent attention, and a mixture of experts in all but the first layers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codejoule.domain.architecture import Family, MixtureOfExperts, read_count
from codejoule.domain.attention import Attention


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention(Attention):
    """Multi-head latent attention (MLA): keys and values are computed from one small latent.

    `kv_heads` and `head_dim` are what the configuration says; MLA does not use them.
    """

    kv_lora_rank: int
    """Width of the latent that keys and values are made of."""
    q_lora_rank: int | None
    """Width of the queries' latent; None where queries are projected directly."""
    qk_nope_head_dim: int
    """Width of a head's query and key without position."""
    qk_rope_head_dim: int
    """Width of the rotary part; its key is shared by all heads."""
    v_head_dim: int
    """Width of a head's value."""

    @property
    def qk_head_dim(self) -> int:
        """Width of a head's whole query and key."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def norm_weights(self) -> int:
        """Both latents are normalized."""
        return self.kv_lora_rank + (self.q_lora_rank or 0)

    @property
    def cached_width(self) -> int:
        """The latent and one rotary key for all heads."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def per_head_width(self) -> int:
        """Values may be narrower than keys."""
        return self.heads * (self.qk_head_dim + self.v_head_dim)

    @property
    def prefill_width(self) -> int:
        """Queries before and after the rotation, keys, values with what they were cut from."""
        return self.heads * (
            3 * self.qk_head_dim
            + self.qk_rope_head_dim
            + self.qk_nope_head_dim
            + 2 * self.v_head_dim
        )

    @property
    def step_width(self) -> int:
        """The expansion of the whole cache."""
        return self.heads * (self.qk_nope_head_dim + self.v_head_dim + self.qk_head_dim)

    @property
    def step_products(self) -> int:
        """transformers makes keys and values of the whole latent in every step."""
        return self.kv_lora_rank * self.heads * (self.qk_nope_head_dim + self.v_head_dim)

    @property
    def absorbed_products(self) -> int:
        """Scores over latent and rotary key, and a sum of latents, for each head."""
        return self.heads * (2 * self.kv_lora_rank + self.qk_rope_head_dim)

    def projections(self, hidden_size: int) -> Mapping[str, tuple[int, int, bool]]:
        """Into the latents, out of them, and out of the attention."""
        queries, rank = self.heads * self.qk_head_dim, self.q_lora_rank
        if rank is None:
            into_queries = {"q_proj": (hidden_size, queries, False)}
        else:
            into_queries = {
                "q_a_proj": (hidden_size, rank, self.qkv_bias),
                "q_b_proj": (rank, queries, False),
            }
        expanded = self.heads * (self.qk_nope_head_dim + self.v_head_dim)
        return into_queries | {
            "kv_a_proj_with_mqa": (hidden_size, self.cached_width, self.qkv_bias),
            "kv_b_proj": (self.kv_lora_rank, expanded, False),
            "o_proj": (self.heads * self.v_head_dim, hidden_size, self.output_bias),
        }


def _read(fields: Mapping[str, Any], **heads: int) -> dict[str, Any]:
    bias = bool(fields.get("attention_bias", False))
    without_latent = fields.get("q_lora_rank") is None
    attention = LatentAttention(
        **heads,
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
