"""The fastest that a card can decode, by its memory bandwidth and its peak rate."""

from dataclasses import dataclass

from codejoule.domain import Workload
from codejoule.estimate.card import Card
from codejoule.estimate.parameters import count_parameters
from codejoule.estimate.work import decode_work


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
