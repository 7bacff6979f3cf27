"""Where the parts of a model go."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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

        dispatch_model(model, device_map=dict(placement.device_map))
