"""Kinds of attention: their projections, and what they keep in memory for each token."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Attention whose query heads share keys and values in groups, or have their own.

    Another kind overrides what differs. Widths are counts of numbers per layer and token.
    """

    heads: int
    """Query heads."""
    kv_heads: int
    """Key and value heads; fewer than `heads` in grouped-query attention."""
    head_dim: int
    """Width of a head."""
    qkv_bias: bool
    """Whether the projections into queries, keys and values have biases."""
    output_bias: bool
    """Whether the projection out of the attention has one."""

    @property
    def cached_width(self) -> int:
        """Kept in the cache: keys and values."""
        return 2 * self.kv_heads * self.head_dim

    @property
    def expanded_width(self) -> int:
        """The same where a latent is cached as keys and values of every head."""
        return self.cached_width

    @property
    def written_out_width(self) -> float:
        """Moved per cached token where each key and value is read once, and written and read
        again once per query head."""
        if self.heads == self.kv_heads:
            return self.cached_width
        return self.cached_width * (1 + 2 * self.heads / self.kv_heads)

    @property
    def attended_width(self) -> float:
        """Half the summed width of queries and values, over all heads."""
        return self.heads * self.head_dim

    @property
    def prefill_width(self) -> int:
        """Held at once per prompt token: queries before and after the rotation, and keys and
        values, which are repeated for every head."""
        return 4 * self.heads * self.head_dim

    @property
    def step_width(self) -> int:
        """Held by a decode step per cached token: one layer's keys, of which the dynamic cache
        makes a second copy when it grows."""
        return self.kv_heads * self.head_dim

    @property
    def step_products(self) -> int:
        """Multiplications per cached token with which a decode step makes keys and values of what
        is cached."""
        return 0

    @property
    def norm_weights(self) -> int:
        """Weights of normalizations inside, per layer."""
        return 0

    def projections(self, hidden_size: int) -> Mapping[str, tuple[int, int, bool]]:
        """Its linear layers in their order: inputs, outputs, and whether there is a bias.

        Parameters
        ----------
        hidden_size : int
            Width of the residual stream.

        Returns
        -------
        mapping of str to (int, int, bool)
            By transformers' name.
        """
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q_proj": (hidden_size, queries, self.qkv_bias),
            "k_proj": (hidden_size, keys, self.qkv_bias),
            "v_proj": (hidden_size, keys, self.qkv_bias),
            "o_proj": (queries, hidden_size, self.output_bias),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention(Attention):
    """Multi-head latent attention (MLA): keys and values come out of one small latent.

    `kv_heads` and `head_dim` are what the configuration says, and of no use.
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
    def expanded_width(self) -> int:
        """Keys and values of every head."""
        return self.heads * (self.qk_head_dim + self.v_head_dim)

    @property
    def written_out_width(self) -> float:
        """The latent, and what is made of it written and read."""
        return self.cached_width + 2 * self.expanded_width

    @property
    def attended_width(self) -> float:
        """Values are narrower than queries."""
        return self.heads * (self.qk_head_dim + self.v_head_dim) / 2

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
