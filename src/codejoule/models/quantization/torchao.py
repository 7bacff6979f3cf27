"""torchao: 8-bit weights with one scale per row, made while transformers loads."""

from typing import TYPE_CHECKING, Any

from codejoule.config.schema import QuantConfig
from codejoule.models.quantization.base import Kernel, Quantizer

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

    def inspect(self, module: Any) -> tuple[str, int, int] | None:
        """A linear layer whose weight multiplies by itself."""
        its = type(getattr(module, "weight", None)).__name__ == _KIND
        return (_KIND, 8, -1) if its else None


QUANTIZER = TorchAo("torchao")
