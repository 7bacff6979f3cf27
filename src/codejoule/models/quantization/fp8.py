"""fp8 weights and activations through torchao, made while transformers loads. The engine ``vllm``
makes its own."""

from typing import TYPE_CHECKING, Any

from codejoule.config.schema import QuantConfig
from codejoule.models.quantization.base import Kernel, Quantizer

if TYPE_CHECKING:
    import torch

_KIND = "Float8Tensor"


class Fp8(Quantizer):
    """Weights are a tensor subclass of torchao's, E4M3 with one scale per row; activations get
    theirs at each step."""

    kernels = (Kernel(name="torchao_fp8", kind=_KIND, tolerance=0.1),)

    def _loading_options(self, quant: QuantConfig, dtype: "torch.dtype") -> dict[str, Any]:
        from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow
        from transformers import TorchAoConfig

        chosen = Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())
        return {"quantization_config": TorchAoConfig(chosen)}

    def inspect(self, module: Any) -> tuple[str, int, int] | None:
        """A linear layer whose weight multiplies by itself."""
        its = type(getattr(module, "weight", None)).__name__ == _KIND
        return (_KIND, 8, -1) if its else None


QUANTIZER = Fp8("fp8")
