"""Operations and bytes of one forward pass of a decoder."""

from dataclasses import dataclass

from codejoule.domain import Architecture, Quantization
from codejoule.estimate.kv_cache import expanded_cache_bytes_per_token, kv_cache_bytes_per_token
from codejoule.estimate.parameters import count_parameters
from codejoule.estimate.weights import weight_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one forward pass asks of a card."""

    flop: float
    """Operations; a multiplication with its addition counts as two."""
    weights_bytes: float
    """Weights read: packed, with their scales."""
    cache_bytes: float
    """Keys and values read and written."""
    experts: float | None
    """Distinct experts per layer expected to be read; None for a dense model."""

    @property
    def moved_bytes(self) -> float:
        """Weights and cache."""
        return self.weights_bytes + self.cache_bytes


def prefill_work(
    architecture: Architecture,
    quantization: Quantization,
    *,
    batch: int,
    prompt_tokens: int,
    dtype: str,
) -> Work:
    r"""Count a prefill.

    Parameters
    ----------
    architecture : Architecture
        The decoder.
    quantization : Quantization
        How its linear layers are stored.
    batch : int
        Sequences.
    prompt_tokens : int
        Length to which they are padded.
    dtype : str
        Dtype of everything unquantized.

    Returns
    -------
    Work
        Of the pass that makes the first token.

    Notes
    -----
    :math:`2 b s (n_a - v m) + 2 b v m` for the weights, since the head is applied to the last
    position alone, and :math:`2 l b s^2 h d` for scores and values (half of the square is masked).
    Replaces equations 3.27 and 3.28 of Buis (2024), which have the head at every position, no
    attention, all experts, and two bytes per parameter whatever the quantization.
    """
    a = architecture
    head = a.vocab_size * a.hidden_size
    tokens = batch * prompt_tokens
    weights, experts = _weights_read(a, quantization, tokens=tokens, dtype=dtype)
    body = count_parameters(a).active - head
    attention = 2 * a.layers * tokens * prompt_tokens * _attended(a)
    return Work(
        flop=2 * tokens * body + 2 * batch * head + attention,
        weights_bytes=weights,
        cache_bytes=tokens * kv_cache_bytes_per_token(a, dtype=dtype),
        experts=experts,
    )


def decode_work(
    architecture: Architecture,
    quantization: Quantization,
    *,
    batch: int,
    cached_tokens: float,
    dtype: str,
    expands_heads: bool = False,
) -> Work:
    r"""Count a decode step.

    Parameters
    ----------
    architecture : Architecture
        The decoder.
    quantization : Quantization
        How its linear layers are stored.
    batch : int
        Sequences.
    cached_tokens : float
        Tokens of each in the cache.
    dtype : str
        Dtype of everything unquantized.
    expands_heads : bool
        Whether the engine writes grouped keys and values once per query head, and reads that,
        as transformers does for a batch with a mask; latent attention is then expanded too.

    Returns
    -------
    Work
        Of one step.

    Notes
    -----
    :math:`2 b n_a` and :math:`4 l b c h d` for attention over :math:`c` tokens, which read
    :math:`b c\,KV`; expanded, twice the :math:`h / h_{kv}`-fold on top. With experts the weights
    are those of the expected number of distinct ones, :math:`E\,(1 - (1 - k/E)^b)`.
    """
    a = architecture
    weights, experts = _weights_read(a, quantization, tokens=batch, dtype=dtype)
    cached = batch * cached_tokens
    per_token = float(kv_cache_bytes_per_token(a, dtype=dtype))
    flop = 2.0 * batch * count_parameters(a).active + 4 * a.layers * cached * _attended(a)
    if a.mla is not None:
        # transformers makes keys and values of the whole latent in every step.
        width = a.heads * (a.mla.qk_nope_head_dim + a.mla.v_head_dim)
        flop += 2 * a.layers * cached * a.mla.kv_lora_rank * width
    if expands_heads and a.mla is not None:
        per_token += 2 * expanded_cache_bytes_per_token(a, dtype=dtype)
    elif expands_heads and a.heads > a.kv_heads:
        per_token *= 1 + 2 * a.heads / a.kv_heads
    return Work(flop=flop, weights_bytes=weights, cache_bytes=cached * per_token, experts=experts)


def _attended(a: Architecture) -> float:
    """Half the summed width of queries and values, over all heads."""
    if a.mla is None:
        return a.heads * a.head_dim
    return a.heads * (a.mla.qk_head_dim + a.mla.v_head_dim) / 2


def _weights_read(
    a: Architecture, quantization: Quantization, *, tokens: int, dtype: str
) -> tuple[float, float | None]:
    moe = a.moe
    experts = None if moe is None else moe.routed * (1 - (1 - moe.active / moe.routed) ** tokens)
    share = 1.0 if moe is None or experts is None else experts / moe.routed
    held = weight_bytes(a, quantization, dtype=dtype, routed_share=share)
    return held.total_bytes - held.embedding_table_bytes, experts
