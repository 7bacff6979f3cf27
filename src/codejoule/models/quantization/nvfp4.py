"""NVFP4: 4-bit floats, of which 16 share an fp8 scale; inputs, too."""

from collections.abc import Mapping
from typing import Any

from codejoule.models.quantization.base import DeclaredQuantization
from codejoule.models.quantization.compressed import Compressed


class NvFp4(Compressed):
    """As LLM Compressor or NVIDIA's ModelOpt write it."""

    format = "nvfp4-pack-quantized"
    type = "float"
    input_bits = 4

    def declared(self, fields: Mapping[str, Any]) -> DeclaredQuantization | None:
        """ModelOpt names its algorithm instead of groups."""
        if str(fields.get("quant_algo")).upper() == "NVFP4":
            return DeclaredQuantization(method=self.name, bits=4, group_size=16)
        return super().declared(fields)

    def inputs(self) -> dict[str, Any]:
        """In groups, as the weights are."""
        group = {"strategy": "tensor_group", "group_size": 16, "dynamic": "local"}
        return {"num_bits": 4, "type": "float", "symmetric": True} | group

    def declaration(self, quant: Any, architecture: Mapping[str, Any]) -> dict[str, Any]:
        """With a scale for a whole tensor above those of groups."""
        made = super().declaration(quant, architecture)
        made["config_groups"]["group_0"]["weights"]["strategy"] = "tensor_group"
        return made


QUANTIZER = NvFp4("nvfp4")
