"""Attention: its projections, how far it sees, and what it keeps in memory for each token."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidingWindow:
    """Layers whose tokens see the last tokens alone."""

    tokens: int
    """How many a token sees, itself among them."""
    layers: int
    """How many layers are so; the others see everything."""

    @property
    def cached_tokens(self) -> int:
        """Tokens that such a layer needs to keep for the next one."""
        return self.tokens - 1


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
        """Numbers kept in the cache: keys and values."""
        return 2 * self.kv_heads * self.head_dim

    @property
    def per_head_width(self) -> int:
        """Keys and values of every query head."""
        return 2 * self.heads * self.head_dim

    @property
    def written_out_width(self) -> int:
        """Numbers moved per cached token, where each key and value is read once, and then written
        and read again for each query head."""
        alike = self.per_head_width == self.cached_width
        return self.cached_width if alike else self.cached_width + 2 * self.per_head_width

    @property
    def prefill_width(self) -> int:
        """Numbers held at once per prompt token: queries before and after the rotation, and keys
        and values, which are repeated for every head."""
        return 4 * self.heads * self.head_dim

    @property
    def step_width(self) -> int:
        """Numbers that a decode step holds per cached token: one layer's keys, of which the dynamic
        cache makes a second copy when it grows."""
        return self.kv_heads * self.head_dim

    @property
    def step_products(self) -> int:
        """Multiplications per cached token that a decode step needs to compute keys and values from
        the cache."""
        return 0

    @property
    def absorbed_products(self) -> int:
        """Multiplications per cached token of a decode step that computes with the cache as it
        is."""
        return self.per_head_width

    @property
    def norm_weights(self) -> int:
        """Weights of normalizations inside, per layer."""
        return 0

    @property
    def own_weights(self) -> int:
        """Weights that are in no projection and no normalization, per layer."""
        return 0

    @property
    def score_matrices(self) -> int:
        """Squares of a prompt's length that every head holds at once; 0 for attention that is
        computed piece by piece."""
        return 0

    def projections(self, hidden_size: int) -> Mapping[str, tuple[int, int, bool]]:
        """Its linear layers in their order by transformers' name: inputs, outputs, and whether
        there is a bias; `hidden_size` is the width of the residual stream."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q_proj": (hidden_size, queries, self.qkv_bias),
            "k_proj": (hidden_size, keys, self.qkv_bias),
            "v_proj": (hidden_size, keys, self.qkv_bias),
            "o_proj": (queries, hidden_size, self.output_bias),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NormedAttention(Attention):
    """Attention that normalizes each head's queries and keys (Qwen3)."""

    @property
    def norm_weights(self) -> int:
        """One vector for queries, one for keys, which all heads share."""
        return 2 * self.head_dim
