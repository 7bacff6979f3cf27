"""fp8 weights and activations through torchao, made while transformers loads. The engine ``vllm``
makes its own."""

from typing import TYPE_CHECKING, Any

from codejoule.config import ConfigError
from codejoule.config.schema import QuantConfig
from codejoule.models.quantization.base import Kernel, Quantizer

if TYPE_CHECKING:
    import torch

_KIND = "Float8Tensor"


class Fp8(Quantizer):
    """Weights are a tensor subclass of torchao's, E4M3 with one scale per row; activations get
    theirs at each step. Rounding to three bits of mantissa makes 2.6 % of an output's size."""

    kernels = (Kernel(name="torchao_fp8", kind=_KIND),)

    def _loading_options(self, quant: QuantConfig, dtype: "torch.dtype") -> dict[str, Any]:
        import torch
        from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow
        from torchao.quantization.quantize_.common import KernelPreference
        from transformers import TorchAoConfig

        if dtype != torch.bfloat16:
            raise ConfigError(
                f"model.dtype={str(dtype).removeprefix('torch.')} with quant={quant.name}: torchao "
                "scales the rows of bfloat16 weights alone; use model.dtype=bfloat16 (for the "
                "baseline, too), or engine=vllm"
            )
        chosen = Float8DynamicActivationFloat8WeightConfig(
            granularity=PerRow(),
            # Not whatever other library is there.
            kernel_preference=KernelPreference.TORCH,
            # A compiled baseline runs with PyTorch's own settings.
            set_inductor_config=False,
        )
        return {"quantization_config": TorchAoConfig(chosen)}

    def inspect(self, module: Any) -> tuple[str, int, int] | None:
        """A linear layer whose weight multiplies by itself, and rounds what comes in."""
        weight: Any = getattr(module, "weight", None)
        if type(weight).__name__ != _KIND or weight.act_quant_kwargs is None:
            return None
        return _KIND, 8, weight.numel() // weight.scale.numel()


QUANTIZER = Fp8("fp8")
