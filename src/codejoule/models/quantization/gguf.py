"""GGUF: blocks of weights with their scales, with which llama.cpp computes as they are."""

from codejoule.models.quantization.served import ServedQuantizer

QUANTIZER = ServedQuantizer("gguf")
