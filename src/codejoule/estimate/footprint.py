"""What a run needs of a GPU's memory, before it starts."""

from dataclasses import dataclass, replace

from codejoule.domain import Workload
from codejoule.estimate.activations import activation_bytes
from codejoule.estimate.kv_cache import kv_cache_bytes_per_token
from codejoule.estimate.weights import weight_bytes

CONTEXT_BYTES = 600 * 2**20
"""An estimate of what CUDA's context, PyTorch's kernels and cuBLAS take on a recent card."""
_LARGEST_BATCH = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Memory of one GPU that holds the whole model, by part."""

    weights_bytes: int
    """The weights; exact."""
    kv_cache_bytes: int
    """The cache at the end of a batch whose sequences all reach their limit; exact."""
    activations_bytes: int
    """Temporary tensors; an estimate (`activation_bytes`)."""
    context_bytes: int
    """CUDA's context and libraries; an estimate. It is there before the model is, so what
    PyTorch then calls free has it taken off already."""

    @property
    def total_bytes(self) -> int:
        """All parts: what to compare with a card's memory."""
        return self.allocated_bytes + self.context_bytes

    @property
    def allocated_bytes(self) -> int:
        """What PyTorch will allocate: what to compare with memory that it calls free."""
        return self.weights_bytes + self.kv_cache_bytes + self.activations_bytes


def memory_needed(work: Workload) -> MemoryEstimate:
    r"""Predict the memory of a generation.

    Parameters
    ----------
    work : Workload
        The model and its batch, whose sequences all run to their limit.

    Returns
    -------
    MemoryEstimate
        Bytes by part. Weights and cache are exact: the weights as a checkpoint holds them, the
        cache for sequences that all run to their limit. Activations and context are estimates.
        Fragmentation of the allocator is in neither: leave it a few per cent.

    Raises
    ------
    ValueError
        For a group size that does not divide a layer.

    Notes
    -----
    Corrects equation 3.26 of Buis (2024),

    .. math:: VRAM = W + KV\, b\, (s + n - 1) + A + C

    with the weights' bytes :math:`W` of `weight_bytes`, the cache per token :math:`KV` of
    `kv_cache_bytes_per_token` for :math:`b` sequences of :math:`s` prompt and :math:`n` new
    tokens, activations :math:`A` and context :math:`C`. Eq. 3.26 multiplies the cache, which is
    in bytes already (eq. 3.24), by bytes per parameter once more, and has neither :math:`A` nor
    :math:`C`; the thesis' tables leave the cache out.
    """
    cached = kv_cache_bytes_per_token(work.architecture, dtype=work.dtype)
    weights = weight_bytes(work.architecture, work.quantization, dtype=work.dtype)
    return MemoryEstimate(
        weights_bytes=weights.total_bytes,
        kv_cache_bytes=work.batch * work.cached_tokens * cached,
        activations_bytes=activation_bytes(work),
        context_bytes=CONTEXT_BYTES,
    )


def largest_batch(work: Workload, *, memory_bytes: int) -> int:
    """Find the largest batch whose `memory_needed` fits.

    Parameters
    ----------
    work : Workload
        The model and its lengths; its own batch is of no meaning.
    memory_bytes : int
        The card's memory.

    Returns
    -------
    int
        Sequences; 0 where not even one fits, at most 2^20.
    """
    # Memory grows with the batch, so the answer lies where it no longer fits.
    low, high = 0, _LARGEST_BATCH + 1
    while high - low > 1:
        middle = (low + high) // 2
        fits = memory_needed(replace(work, batch=middle)).total_bytes <= memory_bytes
        low, high = (middle, high) if fits else (low, middle)
    return low
