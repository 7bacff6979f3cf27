"""compressed-tensors, int8 weights and inputs (Xiao et al. 2022)."""

from codejoule.models.quantization.compressed import Compressed


class W8A8(Compressed):
    """A scale for each output, and for each token at each step."""

    format = "int-quantized"
    type = "int"
    input_bits = 8


QUANTIZER = W8A8("w8a8")
