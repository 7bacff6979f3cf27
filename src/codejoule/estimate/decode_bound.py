"""The fastest that a card can decode, by its memory bandwidth and its peak rate."""

from dataclasses import dataclass

from codejoule.domain import Architecture, Quantization
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


def decode_bound(
    architecture: Architecture,
    quantization: Quantization,
    *,
    batch: int,
    prompt_tokens: int,
    new_tokens: int,
    dtype: str,
    bandwidth_bytes_per_s: float,
    peak_flop_per_s: float | None,
) -> DecodeBound | None:
    r"""Bound the time per output token after the first.

    Parameters
    ----------
    architecture : Architecture
        The decoder.
    quantization : Quantization
        How its linear layers are stored.
    batch : int
        Sequences decoded together.
    prompt_tokens : int
        Length to which prompts are padded.
    new_tokens : int
        Tokens generated per sequence.
    dtype : str
        Dtype of everything unquantized.
    bandwidth_bytes_per_s : float
        The card's memory bandwidth.
    peak_flop_per_s : float or None
        The card's dense peak in the precision of its multiplications.

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
    if new_tokens < 2:
        return None
    work = decode_work(
        architecture,
        quantization,
        batch=batch,
        cached_tokens=prompt_tokens + new_tokens / 2,
        dtype=dtype,
    )
    read, cache = round(work.weights_bytes), round(work.cache_bytes)
    active = count_parameters(architecture).active
    return DecodeBound(
        weights_read_bytes=read,
        kv_cache_read_bytes=cache,
        experts_read=work.experts,
        memory_s=(read + cache) / bandwidth_bytes_per_s,
        compute_s=None if peak_flop_per_s is None else 2 * active * batch / peak_flop_per_s,
        batch=batch,
    )
