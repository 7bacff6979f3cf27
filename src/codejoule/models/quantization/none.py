"""The weights as they are."""

from codejoule.models.quantization.base import Quantizer

QUANTIZER = Quantizer("none")
