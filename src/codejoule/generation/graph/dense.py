"""Layers of Llama's and Qwen2's kind in compiled pieces, for one token per row.

What a product reads is an output of the piece before: where it is computed in the same piece,
torch.compile computes it anew for every row of weights (torch 2.11), and a product with a single
row then comes no nearer to a GPU's bandwidth than three quarters.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from codejoule.generation.graph.attention import attention
from codejoule.generation.graph.opaque import products

if TYPE_CHECKING:
    import torch

_BACKEND = "inductor"
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


class DenseStep:
    """Runs layers and head; the pieces are compiled once and serve every layer."""

    def __init__(self, device: "torch.device", *, one_row: bool) -> None:
        # Products with one row become reductions, which come nearer to a GPU's bandwidth than
        # cuBLAS does; without this option they are left to it.
        tuned = one_row and device.type == "cuda"
        options = {"coordinate_descent_tuning": True} if tuned else None
        self._norm, self._attend, self._gate, self._down, self._head = (
            _compiled(piece, options) for piece in (_norm, _attend, _gate, _down, _head)
        )

    def layer(
        self, layer: Any, parts: Joined | None, hidden: Any, mask: Any, rotary: Any, cache: Any
    ) -> Any:
        """What the layer's own forward computes; `hidden` has shape (rows, 1, width)."""
        x = self._norm(layer.input_layernorm, _rows_vary(hidden))
        hidden = self._attend(layer.self_attn, parts, hidden, _rows_vary(x), mask, rotary, cache)
        x = self._norm(layer.post_attention_layernorm, _rows_vary(hidden))
        x = self._gate(layer.mlp, _rows_vary(x))
        return self._down(layer.mlp, _rows_vary(hidden), _rows_vary(x))

    def head(self, norm: Any, head: Any, hidden: Any) -> Any:
        """Logits, shape (rows, vocabulary)."""
        return self._head(head, _rows_vary(self._norm(norm, _rows_vary(hidden))[:, -1]))


def _compiled(function: Callable[..., Any], options: dict[str, Any] | None) -> Callable[..., Any]:
    import torch

    made: Callable[..., Any] = torch.compile(
        function, backend=_BACKEND, fullgraph=True, options=options
    )
    return made


def sizes_vary(tensor: "torch.Tensor", *sizes: int) -> None:
    """Tell torch.compile that these sizes of a tensor are no constants."""
    import torch

    for size in sizes:
        torch._dynamo.mark_dynamic(tensor, size)


def _rows_vary(tensor: Any) -> Any:
    if len(tensor) > 1:
        sizes_vary(tensor, 0)
    return tensor


def _norm(norm: Any, hidden: Any) -> Any:
    return norm(hidden)


def _attend(
    attn: Any, parts: Joined | None, hidden: Any, x: Any, mask: Any, rotary: Any, cache: Any
) -> Any:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    rows = x.shape[0]
    query, key, value = (
        states.view(rows, 1, -1, attn.head_dim).transpose(1, 2)
        for states in _projections(attn, parts, x)
    )
    query, key = apply_rotary_pos_emb(query, key, *rotary)
    key, value = cache.update(key, value)
    out, _ = attention(attn, query, key, value, mask, scaling=attn.scaling)
    return hidden + attn.o_proj(out.reshape(rows, 1, -1))


def _projections(attn: Any, parts: Joined | None, x: Any) -> Sequence[Any]:
    """Queries, keys and values. The bias is added apart: only a product without one becomes a
    reduction for a single row (torch 2.13)."""
    import torch

    modules = [getattr(attn, name) for name in _NAMES]
    if parts is None:
        return products(modules, x)
    states = torch.nn.functional.linear(x, parts.weight)
    if parts.bias is not None:
        states = states + parts.bias
    found: Sequence[Any] = states.split([module.out_features for module in modules], dim=-1)
    return found


def _gate(mlp: Any, x: Any) -> Any:
    gate, up = products((mlp.gate_proj, mlp.up_proj), x)
    return mlp.act_fn(gate) * up


def _down(mlp: Any, hidden: Any, x: Any) -> Any:
    return hidden + mlp.down_proj(x)


def _head(head: Any, x: Any) -> Any:
    return head(x)
