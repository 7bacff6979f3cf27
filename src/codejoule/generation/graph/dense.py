"""Layers of Llama's, Qwen2's and Qwen3's kind in compiled pieces, for one token per row. Between
the products lie small pieces that torch.compile fuses; the products are cuBLAS's, or the packed
layer's (`opaque`)."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from codejoule.generation.compat import rotate, sizes_vary
from codejoule.generation.graph.attention import attention
from codejoule.generation.graph.opaque import define_operations, packed_products

if TYPE_CHECKING:
    import torch

_BACKEND = "inductor"


class Joined(NamedTuple):
    """Weights of queries, keys and values, one below the other."""

    weight: "torch.Tensor"
    """Shape (outputs of all three, inputs)."""
    bias: "torch.Tensor | None"
    """Shape (outputs of all three,)."""


def join(modules: Sequence[Any]) -> Joined | None:
    """Make the weights of some layers with the same input parts of one tensor; None where they
    are not PyTorch's own layers."""
    import torch

    if any(type(module) is not torch.nn.Linear for module in modules):
        return None
    with torch.no_grad():
        weight = torch.cat([module.weight for module in modules])
        begin = 0
        for module in modules:
            # A part of the whole, so that nothing is in memory twice.
            end = begin + module.out_features
            module.weight = torch.nn.Parameter(weight[begin:end], requires_grad=False)
            begin = end
        biases = [module.bias for module in modules]
        bias = None if any(b is None for b in biases) else torch.cat(biases)
    return Joined(weight, bias)


class DenseLayer:
    """A decoder layer with its joined weights."""

    def __init__(self, layer: Any) -> None:
        self.of = layer
        attn, mlp = layer.self_attn, layer.mlp
        self.attn, self.mlp = attn, mlp
        self.projections = (attn.q_proj, attn.k_proj, attn.v_proj)
        self.gates = (mlp.gate_proj, mlp.up_proj)
        self.joined_projections = join(self.projections)
        self.joined_gates = join(self.gates)


class DenseStep:
    """Runs layers and head; the pieces are compiled once and serve every layer."""

    def __init__(self) -> None:
        define_operations()
        self._add = _compiled(_add)
        self._attend = _compiled(_attend)
        self._gate = _compiled(_gate)
        self._product = _compiled(_product)

    def __call__(
        self,
        layers: Sequence[DenseLayer],
        norm: Any,
        head: Any,
        hidden: Any,
        mask: Any,
        rotary: Any,
        caches: Sequence[Any],
    ) -> Any:
        """Logits, shape (rows, vocabulary), of what the layers' own forwards compute from
        `hidden`, shape (rows, 1, width)."""
        import torch

        # What a layer adds is added where it is read next.
        more = torch.zeros_like(hidden)
        for layer, cache in zip(layers, caches, strict=True):
            hidden, x = self._add(layer.of.input_layernorm, _vary(hidden), _vary(more))
            more = self._attend(
                layer.attn, layer.projections, layer.joined_projections, _vary(x), mask, rotary,
                cache,
            )  # fmt: skip
            hidden, x = self._add(layer.of.post_attention_layernorm, _vary(hidden), _vary(more))
            x = self._gate(layer.mlp, layer.gates, layer.joined_gates, _vary(x))
            more = self._product(layer.mlp.down_proj, _vary(x))
        _, x = self._add(norm, _vary(hidden), _vary(more))
        return self._product(head, _vary(x[:, -1]))


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    made: Callable[..., Any] = torch.compile(function, backend=_BACKEND, fullgraph=True)
    return made


def _vary(tensor: Any) -> Any:
    """A tensor whose rows, if there are several, may be more or fewer."""
    if len(tensor) > 1:
        sizes_vary(tensor, 0)
    return tensor


def _add(norm: Any, hidden: Any, more: Any) -> tuple[Any, Any]:
    hidden = hidden + more
    return hidden, norm(hidden)


def _attend(
    attn: Any,
    projections: Sequence[Any],
    joined: Joined | None,
    x: Any,
    mask: Any,
    rotary: Any,
    cache: Any,
) -> Any:
    rows = x.shape[0]
    # Qwen3's queries and keys are normalized, head by head.
    norms = (getattr(attn, "q_norm", None), getattr(attn, "k_norm", None), None)
    query, key, value = (
        (states if norm is None else norm(states)).transpose(1, 2)
        for norm, states in zip(
            norms,
            (one.view(rows, 1, -1, attn.head_dim) for one in _products(projections, joined, x)),
            strict=True,
        )
    )
    query, key = rotate(query, key, rotary)
    key, value = cache.update(key, value)
    out, _ = attention(attn, query, key, value, mask, scaling=attn.scaling)
    return attn.o_proj(out.reshape(rows, 1, -1))


def _gate(mlp: Any, gates: Sequence[Any], joined: Joined | None, x: Any) -> Any:
    gate, up = _products(gates, joined, x)
    return mlp.act_fn(gate) * up


def _product(layer: Any, x: Any) -> Any:
    return layer(x)


def _products(modules: Sequence[Any], joined: Joined | None, x: Any) -> Sequence[Any]:
    import torch

    if joined is None:
        return packed_products(modules, x)
    sizes = [module.out_features for module in modules]
    products = torch.nn.functional.linear(x, joined.weight, joined.bias)
    found: Sequence[Any] = products.split(sizes, dim=-1)
    return found
