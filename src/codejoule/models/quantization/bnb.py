"""Methods that quantize unquantized weights while transformers loads them."""

import logging
from typing import TYPE_CHECKING, Any

from codejoule.config import UserError
from codejoule.config.schema import Method, QuantConfig

if TYPE_CHECKING:
    import torch

_PACKAGES = {Method.bnb: "bitsandbytes", Method.torchao: "torchao"}


def loading_options(quant: QuantConfig, dtype: "torch.dtype") -> dict[str, Any]:
    """What ``from_pretrained`` must be told besides, for `quant`; `UserError` where the library
    that does it is missing."""
    try:
        if quant.method is Method.bnb:
            return {"quantization_config": _bitsandbytes(quant, dtype)}
        if quant.method is Method.torchao:
            return {"quantization_config": _torchao()}
    except ImportError as error:
        package = _PACKAGES[quant.method]
        raise UserError(
            f"quant={quant.name}: {package} cannot be imported ({error}); install it "
            f"(pip install {package}), or choose another quant"
        ) from error
    return {}


def _bitsandbytes(quant: QuantConfig, dtype: "torch.dtype") -> Any:
    import bitsandbytes
    from transformers import BitsAndBytesConfig

    assert bitsandbytes.__name__
    # At every layer of every step, for inputs that are not float16.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    if quant.bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def _torchao() -> Any:
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig())
