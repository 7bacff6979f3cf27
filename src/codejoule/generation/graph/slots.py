"""The KV cache of the decode loop: one slot of fixed length for each sequence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(slots=True)
class LayerSlots:
    """Keys and values of one layer; shape (slots, heads, length, width of a head). A model's
    attention takes it for its cache and calls `update` alone. Each layer decides what it caches:
    keys and values, or the latents that they are made of."""

    keys: "torch.Tensor"
    values: "torch.Tensor"

    def step(self, positions: "torch.Tensor", mask: "torch.Tensor") -> "StepSlots":
        """As the cache of one decode step: row `i` writes at ``positions[i]``, and attention is
        over as many tokens as `mask` is wide."""
        return StepSlots(self.keys, self.values, positions, mask)


@dataclass(slots=True)
class StepSlots:
    """One layer's cache during a decode step of the first rows."""

    keys: "torch.Tensor"
    values: "torch.Tensor"
    positions: "torch.Tensor"
    mask: "torch.Tensor"

    def update(
        self, keys: "torch.Tensor", values: "torch.Tensor", *args: Any, **kwargs: Any
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Write one token of each row; what each may attend to, a mask aside."""
        import torch

        # The length is a tensor's shape and no number, so that one compiled layer serves all.
        rows, length = keys.shape[0], self.mask.shape[-1]
        row = torch.arange(rows, device=keys.device)
        self.keys[row, :, self.positions] = keys[:, :, 0]
        self.values[row, :, self.positions] = values[:, :, 0]
        return self.keys[:rows, :, :length], self.values[:rows, :, :length]


@dataclass(slots=True)
class PrefillSlots:
    """One layer's cache while the prompts of some rows are read."""

    slots: LayerSlots
    rows: "torch.Tensor"

    def update(
        self, keys: "torch.Tensor", values: "torch.Tensor", *args: Any, **kwargs: Any
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Write whole prompts from the slots' beginning; prompts attend to themselves alone."""
        width = keys.shape[2]
        self.slots.keys[self.rows, :, :width] = keys
        self.slots.values[self.rows, :, :width] = values
        return keys, values


class _Probe:
    """Learns what one layer caches per token."""

    def __init__(self) -> None:
        self.keys: Any = None
        self.values: Any = None

    def update(
        self, keys: "torch.Tensor", values: "torch.Tensor", *args: Any, **kwargs: Any
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        self.keys, self.values = keys, values
        return keys, values


def probes(layers: int) -> list[Any]:
    """Caches that `allocate` learns the shapes from."""
    return [_Probe() for _ in range(layers)]


def allocate(seen: Sequence[Any], *, slots: int, length: int) -> list[LayerSlots]:
    """Slots for all layers, shaped like what the probes in `seen` were given."""

    def empty(like: "torch.Tensor") -> "torch.Tensor":
        heads, width = like.shape[1], like.shape[3]
        return like.new_zeros((slots, heads, length, width))

    return [LayerSlots(keys=empty(probe.keys), values=empty(probe.values)) for probe in seen]


def move_rows(slots: Sequence[LayerSlots], rows: "torch.Tensor") -> None:
    """Bring these rows' caches to the front, in this order."""
    for layer in slots:
        for tensor in (layer.keys, layer.values):
            tensor[: len(rows)] = tensor[rows]
