"""compressed-tensors, fp8 weights and inputs."""

from codejoule.models.quantization.compressed import Compressed


class Fp8Dynamic(Compressed):
    """A scale for each output, and for each token at each step: what is published as FP8-dynamic.
    ``fp8`` is made while loading instead."""

    format = "float-quantized"
    type = "float"
    input_bits = 8


QUANTIZER = Fp8Dynamic("fp8_dynamic")
