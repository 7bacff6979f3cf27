"""Operations and bytes of one forward pass, and the fastest that a card can decode with them."""

from dataclasses import dataclass

from codejoule.domain import Workload
from codejoule.estimate.card import Card
from codejoule.estimate.weights import count_parameters, weight_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Operations and bytes that one forward pass takes."""

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
    position alone, and :math:`2 l b s^2 h d` for scores and values (half of the square is masked; a
    layer with a window of :math:`w < s` tokens has :math:`2 b (2 s w - w^2) h d`).
    Replaces equations 3.27 and 3.28 of Buis (2024), which have the head at every position, no
    attention, all experts, and two bytes per parameter whatever the quantization.
    """
    a = work.architecture
    head = a.vocab_size * a.hidden_size
    tokens = work.batch * work.prompt_tokens
    weights, experts = _weights_read(work, tokens=tokens)
    body = count_parameters(a).active - head
    attention = 2 * work.batch * a.seen_pairs(work.prompt_tokens) * a.attention.per_head_width
    return Work(
        flop=2 * tokens * body + 2 * work.batch * head + attention,
        weights_bytes=weights,
        cache_bytes=work.batch
        * a.cached_tokens(work.prompt_tokens)
        * a.attention.cached_width
        * work.cache_number_bytes,
        experts=experts,
    )


def decode_work(
    work: Workload, *, expands_heads: bool = False, absorbs_latents: bool = False
) -> Work:
    r"""Count a decode step in the middle of a generation.

    Parameters
    ----------
    work : Workload
        The model and its batch.
    expands_heads : bool
        Whether the engine writes grouped keys and values once per query head, and reads that,
        as transformers does for a batch with a mask; latent attention is then expanded too.
    absorbs_latents : bool
        Whether latent attention computes with the latents, its expansion multiplied into the
        projections of queries and outputs, as vLLM does, and not with keys and values that are made
        of them in each step.

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
    cached = work.batch * a.cached_tokens(work.mean_cached_tokens)
    products = (
        a.attention.absorbed_products
        if absorbs_latents
        else a.attention.per_head_width + a.attention.step_products
    )
    width = a.attention.written_out_width if expands_heads else a.attention.cached_width
    return Work(
        flop=2.0 * work.batch * count_parameters(a).active + 2 * cached * products,
        weights_bytes=weights,
        cache_bytes=cached * width * work.cache_number_bytes,
        experts=experts,
    )


def _weights_read(work: Workload, *, tokens: int) -> tuple[float, float | None]:
    moe = work.architecture.moe
    experts = None if moe is None else moe.routed * (1 - (1 - moe.active / moe.routed) ** tokens)
    share = 1.0 if moe is None or experts is None else experts / moe.routed
    held = weight_bytes(work.architecture, work.quantization, dtype=work.dtype, routed_share=share)
    return held.total_bytes - held.embedding_table_bytes, experts


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeBound:
    """A floor under the time of a decode step. No real engine reaches it."""

    weights_read_bytes: int
    """Weights that one step reads, whatever the batch."""
    kv_cache_read_bytes: int
    """Cache that one step reads, at the mean length of the generation."""
    experts_read: float | None
    """Distinct experts per layer that a step is expected to read; None for a dense model."""
    memory_s: float
    """Time to read both at the card's bandwidth."""
    compute_s: float | None
    """Time of the step's multiplications at the card's peak; None where the peak is not known."""
    batch: int
    """Sequences in a step."""

    @property
    def tpot_s(self) -> float:
        """The larger of both times: no step is faster."""
        return max(self.memory_s, self.compute_s or 0.0)

    @property
    def limit(self) -> str:
        """``memory bandwidth`` or ``compute``."""
        return "memory bandwidth" if self.tpot_s == self.memory_s else "compute"

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second of the whole batch at that time."""
        return self.batch / self.tpot_s


def decode_bound(work: Workload, *, card: Card) -> DecodeBound | None:
    r"""Bound the time per output token after the first.

    Parameters
    ----------
    work : Workload
        The model and its batch.
    card : Card
        Its memory bandwidth and peak rate are used.

    Returns
    -------
    DecodeBound or None
        None for a single new token, which prefill makes.

    Notes
    -----
    .. math:: TPOT \ge \max\left(\frac{W_r + b\, \bar{c}\, KV}{B}, \frac{2\, n_a\, b}{F}\right)

    with the weights read once per step :math:`W_r`, the mean number of cached tokens
    :math:`\bar{c} = s + n / 2`, bandwidth :math:`B`, active parameters :math:`n_a` and peak
    :math:`F`. Equation 3.32 of Buis (2024) adds the two times, which overlap, takes all parameters
    for active ones, two bytes for each, and no cache; its batch multiplies the computation alone.

    With experts, :math:`W_r` counts the expected number of distinct experts under uniform,
    independent routing, :math:`E\,(1 - (1 - k/E)^b)` of :math:`E` with :math:`k` per token: an
    expectation, not a bound, since routing that agrees reads fewer.
    """
    if work.new_tokens == 1:
        return None
    step = decode_work(work)
    read, cache = round(step.weights_bytes), round(step.cache_bytes)
    peak = card.peak_flop_per_s(work.quantization, dtype=work.dtype)
    flop = 2 * count_parameters(work.architecture).active * work.batch
    return DecodeBound(
        weights_read_bytes=read,
        kv_cache_read_bytes=cache,
        experts_read=step.experts,
        memory_s=(read + cache) / card.bandwidth_bytes_per_s,
        compute_s=None if peak is None else flop / peak,
        batch=work.batch,
    )
