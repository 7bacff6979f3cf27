"""Packed layers as single operations that torch.compile does not look into."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from codejoule.generation.graph import gemv

if TYPE_CHECKING:
    import torch

_LAYERS: dict[int, Any] = {}
"""Layers in use, by the address of their packed weights: an operation takes tensors and numbers,
and a number of its own would make torch.compile compile each layer anew."""


@cache
def define_operations() -> None:
    """Make the operations known to torch."""
    import torch

    @torch.library.custom_op("codejoule::packed_linear", mutates_args=())  # type: ignore[untyped-decorator]
    def packed_linear(x: torch.Tensor, packed: torch.Tensor, out_features: int) -> torch.Tensor:
        out = _LAYERS[packed.data_ptr()](x)
        assert isinstance(out, torch.Tensor)
        return out

    @packed_linear.register_fake  # type: ignore[untyped-decorator]
    def _shape(x: torch.Tensor, packed: torch.Tensor, out_features: int) -> torch.Tensor:
        return x.new_empty((*x.shape[:-1], out_features))

    @torch.library.custom_op("codejoule::packed_row", mutates_args=())  # type: ignore[untyped-decorator]
    def packed_row(
        x: torch.Tensor, packed: list[torch.Tensor], scales: list[torch.Tensor]
    ) -> torch.Tensor:
        return gemv.marlin_row(x, packed, scales)

    @packed_row.register_fake  # type: ignore[untyped-decorator]
    def _sums(
        x: torch.Tensor, packed: list[torch.Tensor], scales: list[torch.Tensor]
    ) -> torch.Tensor:
        outputs = sum(each.shape[1] for each in scales)
        return gemv.marlin_sums(x, outputs)


@cache
def _kind() -> Any:
    import torch

    define_operations()

    class OpaqueLinear(torch.nn.Module):  # type: ignore[misc]
        """Stands for a packed layer."""

        def __init__(self, layer: Any, packed: torch.Tensor) -> None:
            super().__init__()
            self.register_buffer("packed", packed, persistent=False)
            self.out_features = int(layer.out_features)
            self.by_row = gemv.has_row_product(layer)
            if self.by_row:
                gemv.check_row_product(layer)
                self.register_buffer("scales", layer.scales, persistent=False)
                self.register_buffer("bias", gemv.bias_in_order(layer.bias), persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if _by_row([self], x):
                return packed_products([self], x)[0]
            out = torch.ops.codejoule.packed_linear(x, self.packed, self.out_features)
            assert isinstance(out, torch.Tensor)
            return out

    return OpaqueLinear


def packed_products(layers: Sequence[Any], x: "torch.Tensor") -> list["torch.Tensor"]:
    """What up to three layers make of the same input: of packed ones and a single row in one
    operation."""
    import torch

    if not _by_row(layers, x):
        return [layer(x) for layer in layers]
    row = x.reshape(1, x.shape[-1])
    packed, scales = [layer.packed for layer in layers], [layer.scales for layer in layers]
    sums = torch.ops.codejoule.packed_row(row, packed, scales).sum(dim=0)
    parts = sums.split([layer.out_features for layer in layers])
    return [
        (part if layer.bias is None else part + layer.bias).to(x.dtype).reshape(*x.shape[:-1], -1)
        for layer, part in zip(layers, parts, strict=True)
    ]


def _by_row(layers: Sequence[Any], x: "torch.Tensor") -> bool:
    return x.shape[:-1].numel() == 1 and all(getattr(layer, "by_row", False) for layer in layers)


@contextmanager
def opaque(model: "torch.nn.Module") -> Iterator[bool]:
    """While inside, gptqmodel's layers of `model` are single operations; yields whether any of
    them multiplies single rows by `gemv`'s kernel. Raises `UserError` where that kernel computes
    something else."""
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
        yield any(getattr(parent, name).by_row for parent, name, _ in replaced)
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
