"""An estimate of the memory that a step needs for the moment."""

from codejoule.domain import Architecture, Workload, linear_layers

_FLOAT32 = 4


def activation_bytes(work: Workload) -> int:
    r"""Most bytes of temporary tensors at any moment of a generation. An estimate.

    Parameters
    ----------
    work : Workload
        The model and its batch.

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
    ``batched_mm``: 6.6 GB for DeepSeek-V2-Lite at batch 64). The logits exist once in the model's
    dtype and once in float32. To the largest of these comes the largest quantized layer, unpacked.

    Not in it: kernels' workspaces, and the allocator's fragmentation, which the growing cache
    causes.
    """
    logits = work.batch * work.architecture.vocab_size * (work.number_bytes + _FLOAT32)
    return max(_prefill(work), _decode(work), logits) + _unpacked(work)


def _prefill(work: Workload) -> int:
    a, batch, tokens = work.architecture, work.batch, work.prompt_tokens
    widest = max(2 * a.hidden_size + a.attention.prefill_width, *_mlps(a))
    # One sequence has no padding, and causal attention over it needs no mask.
    masks = 2 * batch * tokens * tokens if batch > 1 else 0
    return batch * tokens * widest * work.number_bytes + masks


def _mlps(a: Architecture) -> list[int]:
    """Numbers per token that each kind of MLP holds at its widest."""
    residuals = 3 * a.hidden_size
    found = [residuals + 3 * a.intermediate_size] if a.dense_layers else []
    if a.moe is not None and a.moe_layers:
        per_expert = a.hidden_size + 4 * a.moe.intermediate_size
        found.append(residuals + a.moe.active * per_expert)
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


def _unpacked(work: Workload) -> int:
    if work.quantization.bits is None:
        return 0
    return work.number_bytes * max(layer.weights for layer in linear_layers(work.architecture))
