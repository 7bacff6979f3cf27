"""compressed-tensors, 4-bit weights in groups, 16-bit inputs."""

from codejoule.models.quantization.compressed import Compressed


class W4A16(Compressed):
    """What LLM Compressor's GPTQ and AWQ recipes write."""

    format = "pack-quantized"
    type = "int"


QUANTIZER = W4A16("w4a16")
