"""An estimate of the memory that a step needs for the moment."""

from codejoule.domain import Architecture, Quantization, dtype_bytes
from codejoule.estimate.kv_cache import cached_tokens
from codejoule.estimate.layers import linear_layers

_FLOAT32 = 4


def activation_bytes(
    architecture: Architecture,
    quantization: Quantization,
    *,
    batch: int,
    prompt_tokens: int,
    new_tokens: int,
    dtype: str,
) -> int:
    r"""Most bytes of temporary tensors at any moment of a generation. An estimate.

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
        Dtype of the activations.

    Returns
    -------
    int
        The larger of prefill and the last decode step.

    Notes
    -----
    Counted are the tensors that transformers 5.23 holds at once, without gradients, in the widest
    place of a layer with ``sdpa`` attention over a padded batch. Prefill of :math:`t = b s` tokens
    holds, in numbers, in

    - attention :math:`t (2 m + 4 h d)`, since grouped-query keys and values are repeated for
      every head; in latent attention queries, and keys and values of every head;
    - an MLP :math:`t (3 m + 3 d_{ff})`;
    - :math:`k` experts of width :math:`j` per token :math:`t (3 m + k m + 4 k j)`.

    A decode step holds one layer's keys, of which the dynamic cache makes a second copy when it
    grows; latent attention's expansion of the *whole* cache; and, for unquantized experts on a
    GPU, a copy of the chosen experts' weights per token, :math:`3 b k m j` (transformers'
    ``batched_mm``: 6.6 GB for DeepSeek-V2-Lite at batch 64). The logits exist once in `dtype` and
    once in float32. To the largest of these comes the largest quantized layer, unpacked.

    Not in it: kernels' workspaces, and the allocator's fragmentation, which the growing cache
    causes.
    """
    shape = {"batch": batch, "width": dtype_bytes(dtype)}
    prefill = _prefill(architecture, prompt_tokens, **shape)
    total = cached_tokens(prompt_tokens=prompt_tokens, new_tokens=new_tokens)
    decode = _decode(architecture, quantization, total, **shape) if new_tokens > 1 else 0
    logits = batch * architecture.vocab_size * (shape["width"] + _FLOAT32)
    return max(prefill, decode, logits) + _unpacked(architecture, quantization, shape["width"])


def _prefill(a: Architecture, tokens: int, *, batch: int, width: int) -> int:
    residuals = 2 * a.hidden_size
    if a.mla is not None:
        attention = residuals + a.heads * (
            # Queries before and after the rotation, keys, values with what they were cut from.
            3 * a.mla.qk_head_dim + a.mla.qk_rope_head_dim + a.mla.qk_nope_head_dim
            + 2 * a.mla.v_head_dim
        )  # fmt: skip
    else:
        repeated = 2 * (a.heads if a.kv_heads < a.heads else a.kv_heads)
        attention = residuals + (2 * a.heads + repeated) * a.head_dim
    widest = max(attention, *_mlps(a))
    # One sequence has no padding, and causal attention over it needs no mask.
    masks = 2 * batch * tokens * tokens if batch > 1 else 0
    return batch * tokens * widest * width + masks


def _mlps(a: Architecture) -> list[int]:
    """Numbers per token that each kind of MLP holds at its widest."""
    residuals = 3 * a.hidden_size
    found = [residuals + 3 * a.intermediate_size] if a.dense_layers else []
    if a.moe is not None and a.moe_layers:
        per_expert = a.hidden_size + 4 * a.moe.intermediate_size
        found.append(residuals + a.moe.active * per_expert)
        found.append(residuals + 3 * a.moe.shared * a.moe.intermediate_size)
    return found


def _decode(
    a: Architecture, quantization: Quantization, tokens: int, *, batch: int, width: int
) -> int:
    if a.mla is None:
        return batch * tokens * a.kv_heads * a.head_dim * width
    expanded = a.heads * (a.mla.qk_nope_head_dim + a.mla.v_head_dim + a.mla.qk_head_dim)
    attention = batch * tokens * expanded * width
    if a.moe is None or quantization.packed:
        return attention
    copied = 3 * batch * a.moe.active * a.hidden_size * a.moe.intermediate_size * width
    return max(attention, copied)


def _unpacked(a: Architecture, quantization: Quantization, width: int) -> int:
    if quantization.method == "none":
        return 0
    return width * max(layer.weights for layer in linear_layers(a))
