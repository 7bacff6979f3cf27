"""fp8 weights with a scale for each square of 128 x 128, as DeepSeek and Qwen publish them."""

from collections.abc import Mapping
from typing import Any

from codejoule.config import ConfigError
from codejoule.config.schema import QuantConfig
from codejoule.domain.architecture import routed_experts
from codejoule.models.quantization.base import DeclaredQuantization
from codejoule.models.quantization.packed_config import excepted_layers
from codejoule.models.quantization.served import ServedQuantizer

_BLOCK = [128, 128]


class Fp8Block(ServedQuantizer):
    """Inputs get scales of their own, one for 128 numbers of a token, at each step."""

    def declared(self, fields: Mapping[str, Any]) -> DeclaredQuantization | None:
        """By the size of its blocks; None where scales belong to whole tensors."""
        if fields.get("weight_block_size") is None:
            return None
        block, scheme = fields.get("weight_block_size"), fields.get("activation_scheme", "dynamic")
        if block != _BLOCK or scheme != "dynamic":
            raise ConfigError(
                f"quantization_config of method fp8 with weight_block_size={block}, "
                f"activation_scheme={scheme}: only blocks of {_BLOCK} with dynamic inputs are "
                "known (quant=fp8_block); name such a checkpoint, or unquantized weights with "
                "quant=fp8"
            )
        return DeclaredQuantization(
            method=self.name, bits=8, group_size=_BLOCK[0], excepted=excepted_layers(fields)
        )

    def declaration(self, quant: QuantConfig, architecture: Mapping[str, Any]) -> dict[str, Any]:
        """As the published ones have it."""
        routers = range(architecture["num_hidden_layers"]) if routed_experts(architecture) else ()
        left = ["lm_head", *(f"model.layers.{number}.mlp.gate" for number in routers)]
        return {
            "quant_method": "fp8",
            "fmt": "e4m3",
            "activation_scheme": "dynamic",
            "weight_block_size": list(_BLOCK),
            "modules_to_not_convert": left,
        }


QUANTIZER = Fp8Block("fp8_block")
