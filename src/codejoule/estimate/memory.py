"""What a run needs of GPUs' memory, before it starts."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate

from codejoule.domain import Architecture, Workload, dtype_bytes, linear_layers
from codejoule.estimate.weights import weight_bytes

CONTEXT_BYTES = 600 * 2**20
"""An estimate of what CUDA's context, PyTorch's kernels and cuBLAS take on a recent card."""
_LARGEST_BATCH = 2**20
_FLOAT32 = 4


def kv_cache_bytes(architecture: Architecture, *, tokens: int, dtype: str) -> int:
    """Bytes of keys and values of one sequence of so many tokens, over all layers.

    Parameters
    ----------
    architecture : Architecture
        The decoder.
    tokens : int
        Length of the sequence, prompt included.
    dtype : str
        Dtype of keys and values: the model's.

    Returns
    -------
    int
        Exact for transformers' dynamic cache, and what any engine needs at least. A layer with a
        sliding window of :math:`w` tokens keeps the last :math:`w - 1`.
    """
    cached = architecture.cached_tokens(tokens) * architecture.attention.cached_width
    return round(cached) * dtype_bytes(dtype)


def kv_cache_bytes_per_token(architecture: Architecture, *, dtype: str) -> int:
    r"""Bytes that one token of one sequence adds to the key-value cache, over all layers, until a
    sliding window is full.

    Parameters
    ----------
    architecture : Architecture
        The decoder.
    dtype : str
        Dtype of keys and values: the model's.

    Returns
    -------
    int
        Exact for transformers' dynamic cache, and what any engine needs at least.

    Notes
    -----
    With :math:`l` layers, :math:`h_{kv}` key-value heads of width :math:`d` and :math:`p` bytes
    per number

    .. math:: KV = 2\, l\, h_{kv}\, d\, p, \qquad KV_{MLA} = l\,(r_{kv} + d_r)\, p

    where latent attention caches its latent of rank :math:`r_{kv}` and one rotary key of width
    :math:`d_r` for all heads. Layers with a sliding window stop growing with it (`kv_cache_bytes`).
    Equation 3.23 of Buis (2024) multiplies by the number of
    parameters instead of layers, and by all heads times the model's width instead of key-value
    heads times a head's; eq. 3.25 divides by the group size what eq. 3.24 had multiplied too often.

    transformers caches DeepSeek-V2's latent (seen in 5.23: ``kv_lora_rank`` beside
    ``qk_rope_head_dim`` per token and layer) and expands all of it to keys and values of every
    head, in each layer of each step: that costs no cache, but it costs time and, for a moment,
    memory.
    """
    return architecture.layers * architecture.attention.cached_width * dtype_bytes(dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Memory of one GPU that holds the whole model, by part."""

    weights_bytes: int
    """The weights; exact."""
    kv_cache_bytes: int
    """The cache at the end of a batch whose sequences all reach their limit; exact."""
    activations_bytes: int
    """Most bytes of temporary tensors at any moment of a generation; an estimate."""
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

    :math:`A` is the larger of prefill and the last decode step, by the tensors that transformers
    5.23 holds at once, without gradients, in the widest place of a layer with ``sdpa`` attention
    over a padded batch. Prefill of :math:`t = b s` tokens holds, in numbers, in

    - attention :math:`t (2 m + 4 h d)`, since grouped-query keys and values are repeated for
      every head; in latent attention queries, and keys and values of every head; with attention
      sinks the scores of every head thrice, :math:`3 b h s^2`;
    - an MLP :math:`t (3 m + 3 d_{ff})`;
    - :math:`k` experts of width :math:`j` per token :math:`t (4 m + k \max(m + 4 j, 4 m))`, since
      results are ordered anew; with biases, a copy of which goes to each token, :math:`m + 9 j`.

    A decode step holds one layer's keys, of which the dynamic cache makes a second copy when it
    grows; latent attention's expansion of the *whole* cache; and, for unquantized experts on a
    GPU, a copy of the chosen experts' weights per token, :math:`3 b k m j` (transformers'
    ``batched_mm``: 6.6 GB for DeepSeek-V2-Lite at batch 64). The logits exist once in the model's
    dtype and once in float32. To the largest of these comes the largest quantized layer, unpacked.
    Kernels' workspaces are not in it.
    """
    a = work.architecture
    cached = round(a.cached_tokens(work.cached_tokens)) * a.attention.cached_width
    weights = weight_bytes(work.architecture, work.quantization, dtype=work.dtype)
    return MemoryEstimate(
        weights_bytes=weights.total_bytes,
        kv_cache_bytes=work.batch * cached * work.cache_number_bytes,
        activations_bytes=max(_prefill(work), _decode(work), _logits(work)) + _unpacked(work),
        context_bytes=CONTEXT_BYTES,
    )


def largest_batch(work: Workload, *, memory_bytes: int) -> int:
    """Find the largest batch whose `memory_needed` fits.

    Parameters
    ----------
    work : Workload
        The model and its lengths; its own batch is not used.
    memory_bytes : int
        The card's memory.

    Returns
    -------
    int
        Sequences; 0 where not even one fits, at most 2^20.
    """
    # Memory grows with the batch, so the answer lies where it no longer fits.
    return bisect_right(
        range(1, _LARGEST_BATCH + 1),
        memory_bytes,
        key=lambda batch: memory_needed(replace(work, batch=batch)).total_bytes,
    )


def place_layers(
    layer_bytes: Sequence[int], *, first_bytes: int, last_bytes: int, gpus: int
) -> tuple[int, ...]:
    """Distribute a decoder's layers over GPUs so that the fullest holds as little as possible.

    Parameters
    ----------
    layer_bytes : sequence of int, shape (n,)
        Memory of each layer, its share of the cache included [bytes].
    first_bytes : int
        What the first GPU holds besides: the embedding [bytes].
    last_bytes : int
        What the last GPU holds besides: the head [bytes].
    gpus : int
        GPUs to use, all of them; at most one per layer.

    Returns
    -------
    tuple of int, shape (n,)
        Each layer's GPU, from 0, never falling: a token crosses from one GPU to the next
        ``gpus - 1`` times.

    Raises
    ------
    ValueError
        For fewer than 1 GPU, or more than there are layers.
    """
    n = len(layer_bytes)
    if not 1 <= gpus <= n:
        raise ValueError(f"gpus={gpus}: must be at least 1 and at most {n}, the number of layers")
    before = [0, *accumulate(layer_bytes)]
    extra = [first_bytes, *[0] * (gpus - 1)]
    extra[-1] += last_bytes

    @cache
    def fullest(end: int, gpu: int) -> tuple[int, int]:
        """The least that the fullest GPU up to `gpu` must hold for the layers before `end`, and
        the first of those on `gpu`."""
        if gpu == 0:
            return before[end] + extra[0], 0
        return min(
            (max(fullest(start, gpu - 1)[0], before[end] - before[start] + extra[gpu]), start)
            for start in range(gpu, end)
        )

    placed: list[int] = []
    end = n
    for gpu in reversed(range(gpus)):
        start = fullest(end, gpu)[1]
        placed = [gpu] * (end - start) + placed
        end = start
    return tuple(placed)


def _prefill(work: Workload) -> int:
    a, batch, tokens = work.architecture, work.batch, work.prompt_tokens
    attention = batch * tokens * (2 * a.hidden_size + a.attention.prefill_width)
    matrix = a.attention.heads * batch * tokens * tokens
    # Scores that are written out are returned with the attention's output, and live on.
    kept = min(a.attention.score_matrices, 1) * matrix
    widest = max(
        attention + a.attention.score_matrices * matrix,
        *(batch * tokens * width + kept for width in _mlps(a)),
    )
    # One sequence has no padding, and causal attention over it needs no mask.
    masks = 2 * batch * tokens * tokens if batch > 1 else 0
    return widest * work.number_bytes + masks


def _mlps(a: Architecture) -> list[int]:
    """Numbers per token that each kind of MLP holds at its widest."""
    residuals = 3 * a.hidden_size
    found = [residuals + 3 * a.intermediate_size] if a.dense_layers else []
    if a.moe is not None and a.moe_layers:
        between = a.hidden_size + (9 if a.moe.bias else 4) * a.moe.intermediate_size
        per_expert = max(between, 4 * a.hidden_size)
        found.append(residuals + a.hidden_size + a.moe.active * per_expert)
        found.append(residuals + 3 * a.moe.shared * a.moe.intermediate_size)
    return found


def _decode(work: Workload) -> int:
    if work.new_tokens == 1:
        return 0
    a = work.architecture
    attention = work.batch * work.cached_tokens * a.attention.step_width
    copied = 0
    if a.moe is not None and not work.quantization.packed:
        copied = 3 * work.batch * a.moe.active * a.hidden_size * a.moe.intermediate_size
    return max(attention, copied) * work.number_bytes


def _logits(work: Workload) -> int:
    return work.batch * work.architecture.vocab_size * (work.number_bytes + _FLOAT32)


def _unpacked(work: Workload) -> int:
    if work.quantization.bits is None:
        return 0
    return work.number_bytes * max(layer.weights for layer in linear_layers(work.architecture))
