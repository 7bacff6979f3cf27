"""Linear layers of a decoder's blocks, with their shape and how often there is one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearLayers:
    """Layers of one name: the same shape in each block that has them."""

    name: str
    """transformers' name, e.g. ``q_proj``."""
    part: str
    """``attention``, ``mlp``, ``shared_experts`` or ``routed_experts``."""
    in_features: int
    """Width of the input."""
    out_features: int
    """Width of the output."""
    bias: bool
    """Whether there is a bias."""
    number: int
    """How many the model has."""
    active: int
    """How many of them one token passes."""

    @property
    def weights(self) -> int:
        """Weights of one layer, bias aside."""
        return self.in_features * self.out_features

    @property
    def parameters(self) -> int:
        """Parameters of one layer."""
        return self.weights + (self.out_features if self.bias else 0)
