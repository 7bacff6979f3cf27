"""AWQ, 4 bits (Lin et al. 2023), in the layout ``gemm``."""

from collections.abc import Mapping
from typing import Any

from codejoule.config.schema import QuantConfig
from codejoule.models.quantization.packed import PackedQuantizer, packed_kernels


class Awq(PackedQuantizer):
    """Numbers of a word lie along the outputs.

    It takes no mixture of experts: gptqmodel 7.6's search for scales takes attention's first
    layers together, which latent attention does not have.
    """

    recipe = "AWQConfig"
    # Its packing takes no float32.
    backend = "AWQ_TORCH"
    places = (0, 2, 4, 6, 1, 3, 5, 7)
    kernels = packed_kernels(
        cuda={
            "swordfish": "AwqSwordfishLinear",
            "machete": "AwqMacheteLinear",
            "marlin": "AwqMarlinLinear",
            "exllama_v2": "AwqExllamaV2Linear",
            "gemm": "AwqGEMMLinear",
            "gemm_triton": "AwqGEMMTritonLinear",
            "torch": "AwqTorchLinear",
        },
        cpu={
            "torch_aten": "TorchAtenAwqLinear",
            "torch_fused": "TorchFusedAwqLinear",
            "torch_int8": "TorchInt8AwqLinear",
            "torch": "AwqTorchLinear",
        },
    )

    def declaration(self, quant: QuantConfig, architecture: Mapping[str, Any]) -> dict[str, Any]:
        """With zero points."""
        return {
            "quant_method": "awq",
            "bits": quant.bits,
            "group_size": quant.group_size,
            "zero_point": not quant.sym,
            "version": "gemm",
        }


QUANTIZER = Awq("awq")
