"""AWQ, 4 bits (Lin et al. 2023), in the layout ``gemm``."""

from typing import TYPE_CHECKING

from codejoule.config.schema import QuantConfig
from codejoule.models.quantization.base import Kernel, Tensors
from codejoule.models.quantization.packed import PackedQuantizer
from codejoule.models.quantization.packed_words import unpack

if TYPE_CHECKING:
    import torch
    from gptqmodel.quantization import AWQConfig


class Awq(PackedQuantizer):
    """Numbers of a word lie along the outputs.

    gptqmodel 7.6's search for scales takes attention's first layers together, which the latent
    attention of its mixtures of experts does not have.
    """

    order = {4: (0, 2, 4, 6, 1, 3, 5, 7)}  # noqa: RUF012 (constant)
    quantizing_options = {"backend": "AWQ_TORCH"}  # noqa: RUF012
    # gptqmodel 7.6's own order on each device.
    kernels = (
        Kernel(name="swordfish", kind="AwqSwordfishLinear", device="cuda"),
        Kernel(name="machete", kind="AwqMacheteLinear", device="cuda"),
        Kernel(name="marlin", kind="AwqMarlinLinear", device="cuda"),
        Kernel(name="exllama_v2", kind="AwqExllamaV2Linear", device="cuda"),
        Kernel(name="gemm", kind="AwqGEMMLinear", device="cuda"),
        Kernel(name="gemm_triton", kind="AwqGEMMTritonLinear", device="cuda"),
        Kernel(name="torch", kind="AwqTorchLinear", device="cuda", fallback=True),
        Kernel(
            name="torch_aten",
            kind="TorchAtenAwqLinear",
            device="cpu",
            note="computes in bfloat16 whatever the model's dtype",
        ),
        Kernel(name="torch_fused", kind="TorchFusedAwqLinear", device="cpu"),
        Kernel(
            name="torch_int8",
            kind="TorchInt8AwqLinear",
            device="cpu",
            rounds_to_int8=True,
            repacks_to_int8=True,
            note="weights rounded again, to int8 with one scale per output channel",
        ),
        Kernel(name="torch", kind="AwqTorchLinear", device="cpu", fallback=True),
    )

    def levels(
        self,
        tensors: Tensors,
        quant: QuantConfig,
        words: "torch.Tensor",
        outputs: "torch.Tensor",
        device: "torch.device",
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Words beside one another; groups in the order of inputs."""
        import torch

        assert quant.bits is not None and quant.group_size is not None
        levels = unpack(tensors["qweight"][:, words].to(device), quant.bits)
        inputs = levels.shape[0]
        size = quant.group_size if quant.group_size > 0 else inputs
        return levels, torch.arange(inputs, device=device) // size

    def recipe(self, quant: QuantConfig, device: str) -> "AWQConfig":
        """gptqmodel's form of `quant`."""
        from gptqmodel.quantization import AWQConfig

        return AWQConfig(**self.options(quant, device))

    def zero_point(self, quant: QuantConfig) -> bool:
        """Whether there are any."""
        return not quant.sym


QUANTIZER = Awq("awq")
