"""bitsandbytes: NF4 or LLM.int8(), made while transformers loads."""

import logging
from typing import TYPE_CHECKING, Any

from codejoule.config.schema import QuantConfig
from codejoule.models.quantization.base import Kernel, Quantizer

if TYPE_CHECKING:
    import torch


class BitsAndBytes(Quantizer):
    """Layers are modules of its own."""

    kernels = (
        # 4-bit NormalFloat against the weights before: 0.1 for a normal distribution.
        Kernel(name="bnb_4bit", kind="Linear4bit", bits=4, tolerance=0.25),
        Kernel(
            name="bnb_int8",
            kind="Linear8bitLt",
            bits=8,
            rounds_to_int8=True,
            note="LLM.int8(): inputs rounded to int8 too, outliers computed apart",
        ),
    )

    def _loading_options(self, quant: QuantConfig, dtype: "torch.dtype") -> dict[str, Any]:
        import bitsandbytes
        from transformers import BitsAndBytesConfig

        assert bitsandbytes.__name__
        # At every layer of every step, for inputs that are not float16.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        if quant.bits == 8:
            return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
        nf4 = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
        return {"quantization_config": nf4}

    def inspect(self, module: Any) -> tuple[str, int, int] | None:
        """A linear layer by its weight."""
        weight: Any = getattr(module, "weight", None)
        kind = type(weight).__name__
        if kind == "Params4bit":
            return type(module).__name__, 4, int(weight.blocksize)
        return (type(module).__name__, 8, -1) if kind == "Int8Params" else None


QUANTIZER = BitsAndBytes("bnb")
