"""What a run needs of a GPU's memory, before it starts."""

from dataclasses import dataclass

from codejoule.domain import Architecture, Quantization
from codejoule.estimate.activations import activation_bytes
from codejoule.estimate.kv_cache import cached_tokens, kv_cache_bytes_per_token
from codejoule.estimate.weights import weight_bytes

CONTEXT_BYTES = 600 * 2**20
"""An estimate of what CUDA's context, PyTorch's kernels and cuBLAS take on a recent card."""


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


def memory_needed(
    architecture: Architecture,
    quantization: Quantization,
    *,
    batch: int,
    prompt_tokens: int,
    new_tokens: int,
    dtype: str,
) -> MemoryEstimate:
    r"""Predict the memory of a generation.

    Parameters
    ----------
    architecture : Architecture
        The decoder.
    quantization : Quantization
        How its linear layers are stored.
    batch : int
        Sequences decoded together, at least 1.
    prompt_tokens : int
        Length of the longest prompt of a batch, to which the others are padded; at least 1.
    new_tokens : int
        Limit on new tokens, at least 1.
    dtype : str
        ``float32``, ``float16`` or ``bfloat16``, of everything unquantized, the cache included.

    Returns
    -------
    MemoryEstimate
        Bytes by part. Weights and cache are exact: the weights as a checkpoint holds them, the
        cache for sequences that all run to their limit. Activations and context are estimates.
        Fragmentation of the allocator is in neither: leave it a few per cent.

    Raises
    ------
    ValueError
        For lengths below 1, an unknown dtype, or a group size that does not divide a layer.

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
    for name, value in {
        "batch": batch,
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
    }.items():
        if value < 1:
            raise ValueError(f"{name}={value}: must be at least 1")
    tokens = cached_tokens(prompt_tokens=prompt_tokens, new_tokens=new_tokens)
    return MemoryEstimate(
        weights_bytes=weight_bytes(architecture, quantization, dtype=dtype).total_bytes,
        kv_cache_bytes=batch * tokens * kv_cache_bytes_per_token(architecture, dtype=dtype),
        activations_bytes=activation_bytes(
            architecture,
            quantization,
            batch=batch,
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
            dtype=dtype,
        ),
        context_bytes=CONTEXT_BYTES,
    )
