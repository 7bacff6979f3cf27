"""Quantization methods: how each loads, which kernels it runs on, its proof, how it is made.

Each is a module of the name that `codejoule.domain.METHODS` has for it, with a ``QUANTIZER``.
"""

from functools import cache
from importlib import import_module

from codejoule.domain import METHODS
from codejoule.models.quantization.base import Quantizer

__all__ = ["Quantizer", "quantizer_of", "quantizers"]


@cache
def quantizer_of(method: str) -> Quantizer:
    """The method of this name."""
    quantizer = import_module(f"{__name__}.{method}").QUANTIZER
    assert isinstance(quantizer, Quantizer)
    return quantizer


def quantizers() -> list[Quantizer]:
    """All methods."""
    return [quantizer_of(method) for method in METHODS]
