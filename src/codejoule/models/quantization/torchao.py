"""torchao: 8-bit weights with one scale per row, made while transformers loads."""

from typing import TYPE_CHECKING, Any

from codejoule.config.schema import QuantConfig
from codejoule.models.quantization.base import InspectedModule, Kernel, Quantizer

if TYPE_CHECKING:
    import torch

_KIND = "Int8Tensor"


class TorchAo(Quantizer):
    """Weights are a tensor subclass of torchao's."""

    kernels = (Kernel(name="torchao_int8", kind=_KIND, rounds_to_int8=True),)

    def _loading_options(self, quant: QuantConfig, dtype: "torch.dtype") -> dict[str, Any]:
        from torchao.quantization import Int8WeightOnlyConfig
        from transformers import TorchAoConfig

        return {"quantization_config": TorchAoConfig(Int8WeightOnlyConfig())}

    def inspect(self, module: Any) -> InspectedModule | None:
        """A linear layer whose weight multiplies by itself."""
        if type(getattr(module, "weight", None)).__name__ != _KIND:
            return None
        return InspectedModule(kernel=_KIND, bits=8, group_size=-1)


QUANTIZER = TorchAo("torchao")
