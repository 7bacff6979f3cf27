"""Packed layers as single operations that torch.compile does not look into."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_LAYERS: dict[int, Any] = {}
"""Layers in use, by the address of their packed weights: an operation takes tensors and numbers,
and a number of its own would make torch.compile compile each layer anew."""


@cache
def _define_operation() -> None:
    import torch

    @torch.library.custom_op("codejoule::packed_linear", mutates_args=())  # type: ignore[untyped-decorator]
    def packed_linear(x: torch.Tensor, packed: torch.Tensor, out_features: int) -> torch.Tensor:
        out = _LAYERS[packed.data_ptr()](x)
        assert isinstance(out, torch.Tensor)
        return out

    @packed_linear.register_fake  # type: ignore[untyped-decorator]
    def _shape(x: torch.Tensor, packed: torch.Tensor, out_features: int) -> torch.Tensor:
        return x.new_empty((*x.shape[:-1], out_features))


@cache
def _kind() -> Any:
    import torch

    _define_operation()

    class OpaqueLinear(torch.nn.Module):  # type: ignore[misc]
        """Stands for a packed layer."""

        def __init__(self, layer: Any, packed: torch.Tensor) -> None:
            super().__init__()
            self.register_buffer("packed", packed, persistent=False)
            self.out_features = int(layer.out_features)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = torch.ops.codejoule.packed_linear(x, self.packed, self.out_features)
            assert isinstance(out, torch.Tensor)
            return out

    return OpaqueLinear


@contextmanager
def opaque(model: "torch.nn.Module") -> Iterator[int]:
    """While inside, gptqmodel's layers of `model` are single operations; yields their number."""
    replaced: list[tuple[Any, str, Any]] = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if not _is_packed(child):
                continue
            packed = _packed_weights(child)
            _LAYERS[packed.data_ptr()] = child
            setattr(parent, name, _kind()(child, packed))
            replaced.append((parent, name, child))
    try:
        yield len(replaced)
    finally:
        for parent, name, child in replaced:
            setattr(parent, name, child)
            _LAYERS.pop(_packed_weights(child).data_ptr(), None)


def _is_packed(module: "torch.nn.Module") -> bool:
    from_gptqmodel = any(kind.__module__.startswith("gptqmodel.") for kind in type(module).__mro__)
    return from_gptqmodel and hasattr(module, "out_features")


def _packed_weights(layer: "torch.nn.Module") -> "torch.Tensor":
    """The layer's largest tensor of whole numbers: no two layers share it."""
    tensors = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
    whole = [t for t in tensors if not t.is_floating_point() and t.numel()]
    return max(whole, key=lambda tensor: tensor.numel())
