"""A decoder's shape, as far as its size and its caches depend on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KNOWN = ("deepseek_v2", "llama", "qwen2")
"""Values of ``model_type`` whose layers are known here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (MLA): keys and values come out of one small latent."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureOfExperts:
    """Layers whose MLP is a choice among many."""

    routed: int
    """Experts to choose from, per layer."""
    active: int
    """Experts chosen per token."""
    shared: int
    """Experts that every token passes, beside the chosen."""
    intermediate_size: int
    """Width of one expert."""
    first_dense_layers: int
    """Layers at the bottom that have an ordinary MLP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A decoder-only transformer with rotary positions, RMSNorm and gated MLPs."""

    model_type: str
    """transformers' name of the family, one of `KNOWN`."""
    vocab_size: int
    """Rows of the embedding."""
    hidden_size: int
    """Width of the residual stream."""
    intermediate_size: int
    """Width of an ordinary layer's MLP."""
    layers: int
    """Decoder layers."""
    heads: int
    """Query heads."""
    kv_heads: int
    """Key and value heads; fewer than `heads` in grouped-query attention."""
    head_dim: int
    """Width of a head; of no use with `mla`, which has its own."""
    tied: bool
    """Whether the head is the embedding matrix."""
    qkv_bias: bool
    """Whether the projections into queries, keys and values have biases."""
    output_bias: bool
    """Whether the projection out of the attention has one."""
    mlp_bias: bool
    """Whether the MLP's layers have biases."""
    context_tokens: int
    """Positions that the model was made for."""
    dtype: str | None
    """Dtype of the published weights; None where the configuration names none."""
    mla: LatentAttention | None
    """Latent attention; None for ordinary attention."""
    moe: MixtureOfExperts | None
    """Mixture of experts; None for a dense model."""

    @classmethod
    def from_config(cls, fields: Mapping[str, Any]) -> "Architecture":
        """Read a ``config.json``.

        Parameters
        ----------
        fields : mapping
            The file's top level, as in ``model.architecture`` of ``conf/model``.

        Returns
        -------
        Architecture
            The same facts, checked.

        Raises
        ------
        ValueError
            For a family that is not in `KNOWN`, a missing field, or sliding-window attention.
        """
        family = fields.get("model_type")
        if family not in KNOWN:
            raise ValueError(
                f"model_type={family}: its layers are not known to the estimator, which knows "
                f"{', '.join(KNOWN)}"
            )
        if fields.get("use_sliding_window"):
            raise ValueError(
                "use_sliding_window=true: the estimator knows only attention over the whole context"
            )
        hidden, heads = _count(fields, "hidden_size"), _count(fields, "num_attention_heads")
        kv_heads = fields.get("num_key_value_heads")
        bias = bool(fields.get("attention_bias", False))
        dtype = fields.get("dtype") or fields.get("torch_dtype")
        return cls(
            model_type=family,
            vocab_size=_count(fields, "vocab_size"),
            hidden_size=hidden,
            intermediate_size=_count(fields, "intermediate_size"),
            layers=_count(fields, "num_hidden_layers"),
            heads=heads,
            kv_heads=heads if kv_heads is None else _count(fields, "num_key_value_heads"),
            head_dim=int(fields.get("head_dim") or hidden // heads),
            tied=bool(fields.get("tie_word_embeddings", False)),
            # Qwen2 has them without a field that says so.
            qkv_bias=bias or family == "qwen2",
            output_bias=bias and family != "qwen2",
            mlp_bias=bool(fields.get("mlp_bias", False)) and family != "qwen2",
            context_tokens=_count(fields, "max_position_embeddings"),
            dtype=None if dtype is None else str(dtype),
            mla=_latent_attention(fields) if family == "deepseek_v2" else None,
            moe=_experts(fields) if family == "deepseek_v2" else None,
        )

    @property
    def moe_layers(self) -> int:
        """Layers with experts."""
        return 0 if self.moe is None else self.layers - self.moe.first_dense_layers

    @property
    def dense_layers(self) -> int:
        """Layers with an ordinary MLP."""
        return self.layers - self.moe_layers


def _latent_attention(fields: Mapping[str, Any]) -> LatentAttention:
    q_rank = fields.get("q_lora_rank")
    return LatentAttention(
        kv_lora_rank=_count(fields, "kv_lora_rank"),
        q_lora_rank=None if q_rank is None else _count(fields, "q_lora_rank"),
        qk_nope_head_dim=_count(fields, "qk_nope_head_dim"),
        qk_rope_head_dim=_count(fields, "qk_rope_head_dim"),
        v_head_dim=_count(fields, "v_head_dim"),
    )


def _experts(fields: Mapping[str, Any]) -> MixtureOfExperts:
    if fields.get("moe_layer_freq", 1) != 1:
        raise ValueError(
            f"moe_layer_freq={fields['moe_layer_freq']}: the estimator, like transformers, knows "
            "experts in every layer after the first dense ones"
        )
    layers, dense = _count(fields, "num_hidden_layers"), int(fields.get("first_k_dense_replace", 0))
    if not 0 <= dense <= layers:
        raise ValueError(f"first_k_dense_replace={dense}: must lie between 0 and {layers}")
    return MixtureOfExperts(
        routed=_count(fields, "n_routed_experts"),
        active=_count(fields, "num_experts_per_tok"),
        shared=int(fields.get("n_shared_experts") or 0),
        intermediate_size=_count(fields, "moe_intermediate_size"),
        first_dense_layers=dense,
    )


def _count(fields: Mapping[str, Any], key: str) -> int:
    value = fields.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{key}={value}: the estimator needs a whole number of at least 1")
    return value
