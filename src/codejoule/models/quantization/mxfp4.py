"""MXFP4: 4-bit floats, of which 32 share an exponent (OCP 2023); routed experts alone."""

from collections.abc import Mapping
from typing import Any

from codejoule.config.schema import QuantConfig
from codejoule.models.quantization.base import DeclaredQuantization
from codejoule.models.quantization.served import ServedQuantizer


class MxFp4(ServedQuantizer):
    """As gpt-oss is published."""

    def declared(self, fields: Mapping[str, Any]) -> DeclaredQuantization | None:
        """All such checkpoints are alike; what is no expert is left as it is."""
        return DeclaredQuantization(method=self.name, bits=4, group_size=32)

    def declaration(self, quant: QuantConfig, architecture: Mapping[str, Any]) -> dict[str, Any]:
        """As the published ones have it."""
        inside = [f"model.layers.*.{part}" for part in ("self_attn", "mlp.router")]
        left = [*inside, "model.embed_tokens", "lm_head"]
        return {"quant_method": "mxfp4", "modules_to_not_convert": left}


QUANTIZER = MxFp4("mxfp4")
