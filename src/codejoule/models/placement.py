"""Where the parts of a model go."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codejoule.models.compat import kept_on_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One device for everything, or a GPU for each part."""

    device: str
    """``cpu`` or ``cuda``."""
    device_map: Mapping[str, int] | None = None
    """GPU of each part by its path in the model, as transformers takes it; None for one device."""

    def of(self, name: str) -> str:
        """Device of the module or tensor of this path, such as ``cuda:1``."""
        if self.device_map is None:
            return self.device
        for part, gpu in self.device_map.items():
            if name == part or name.startswith(f"{part}."):
                return f"{self.device}:{gpu}"
        return f"{self.device}:0"

    @property
    def for_transformers(self) -> dict[str, Any]:
        """The ``device_map`` of ``from_pretrained``."""
        return {"": self.device} if self.device_map is None else dict(self.device_map)


def spread(model: Any, placement: Placement) -> None:
    """Let activations follow from GPU to GPU, where the parts of `model` lie on several."""
    if placement.device_map is not None:
        from accelerate import dispatch_model

        dispatch_model(
            model,
            device_map=dict(placement.device_map),
            # The cache's layers stay where they grew.
            skip_keys=kept_on_device(model),
        )


def materialize(model: "PreTrainedModel", place: Placement) -> None:
    """Give every tensor its place: those of the meta device blank, the others as they are."""
    import torch

    for path, module in model.named_modules():
        for name, tensor in module.named_parameters(recurse=False):
            where = place.of(f"{path}.{name}")
            if tensor.is_meta:
                real = torch.empty_like(tensor, device=where)
                setattr(module, name, torch.nn.Parameter(real, requires_grad=False))
            else:
                tensor.data = tensor.data.to(where)
        for name, tensor in module.named_buffers(recurse=False):
            where = place.of(f"{path}.{name}")
            blank = torch.empty_like(tensor, device=where) if tensor.is_meta else tensor.to(where)
            setattr(module, name, blank)
    model.tie_weights()
