"""A decoder layer of Llama's and Qwen2's kind with its three projections as one product."""

from typing import TYPE_CHECKING, Any, NamedTuple

from codejoule.generation.graph.attention import attention

if TYPE_CHECKING:
    import torch

_NAMES = ("q_proj", "k_proj", "v_proj")


class Joined(NamedTuple):
    """Weights of queries, keys and values, one below the other."""

    weight: "torch.Tensor"
    """Shape (outputs of all three, inputs)."""
    bias: "torch.Tensor | None"
    """Shape (outputs of all three,)."""


def join(attn: Any) -> Joined | None:
    """Make the weights of an attention's projections parts of one tensor; None where they are
    not PyTorch's own layers."""
    import torch

    parts = [getattr(attn, name) for name in _NAMES]
    if any(type(part) is not torch.nn.Linear for part in parts):
        return None
    with torch.no_grad():
        weight = torch.cat([part.weight for part in parts])
        begin = 0
        for part in parts:
            # A part of the whole, so that nothing is in memory twice.
            end = begin + part.out_features
            part.weight = torch.nn.Parameter(weight[begin:end], requires_grad=False)
            begin = end
        biases = [part.bias for part in parts]
        bias = None if any(b is None for b in biases) else torch.cat(biases)
    return Joined(weight, bias)


def dense_layer(layer: Any, parts: Joined, hidden: Any, mask: Any, rotary: Any, cache: Any) -> Any:
    """What the layer's own forward computes for one token per row.

    The bias is added apart: only a product without one becomes a reduction for a single row
    (torch 2.13).
    """
    import torch
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    attn = layer.self_attn
    rows = hidden.shape[0]
    states = torch.nn.functional.linear(layer.input_layernorm(hidden), parts.weight)
    if parts.bias is not None:
        states = states + parts.bias
    sizes = [getattr(attn, name).out_features for name in _NAMES]
    query, key, value = (
        part.view(rows, 1, -1, attn.head_dim).transpose(1, 2)
        for part in states.split(sizes, dim=-1)
    )
    query, key = apply_rotary_pos_emb(query, key, *rotary)
    key, value = cache.update(key, value)
    out, _ = attention(attn, query, key, value, mask, scaling=attn.scaling)
    hidden = hidden + attn.o_proj(out.reshape(rows, 1, -1))
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))
