"""Operations and bytes of one forward pass of a decoder."""

from dataclasses import dataclass

from codejoule.domain import Workload
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


def prefill_work(work: Workload) -> Work:
    r"""Count a prefill.

    Parameters
    ----------
    work : Workload
        The model and its batch.

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
    a = work.architecture
    head = a.vocab_size * a.hidden_size
    tokens = work.batch * work.prompt_tokens
    weights, experts = _weights_read(work, tokens=tokens)
    body = count_parameters(a).active - head
    attention = a.layers * tokens * work.prompt_tokens * a.attention.per_head_width
    return Work(
        flop=2 * tokens * body + 2 * work.batch * head + attention,
        weights_bytes=weights,
        cache_bytes=tokens * a.layers * a.attention.cached_width * work.number_bytes,
        experts=experts,
    )


def decode_work(work: Workload, *, expands_heads: bool = False) -> Work:
    r"""Count a decode step in the middle of a generation.

    Parameters
    ----------
    work : Workload
        The model and its batch.
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
    a = work.architecture
    weights, experts = _weights_read(work, tokens=work.batch)
    cached = work.batch * work.mean_cached_tokens
    products = a.attention.per_head_width + a.attention.step_products
    width = a.attention.written_out_width if expands_heads else a.attention.cached_width
    return Work(
        flop=2.0 * work.batch * count_parameters(a).active + 2 * a.layers * cached * products,
        weights_bytes=weights,
        cache_bytes=cached * a.layers * width * work.number_bytes,
        experts=experts,
    )


def _weights_read(work: Workload, *, tokens: int) -> tuple[float, float | None]:
    moe = work.architecture.moe
    experts = None if moe is None else moe.routed * (1 - (1 - moe.active / moe.routed) ** tokens)
    share = 1.0 if moe is None or experts is None else experts / moe.routed
    held = weight_bytes(work.architecture, work.quantization, dtype=work.dtype, routed_share=share)
    return held.total_bytes - held.embedding_table_bytes, experts
