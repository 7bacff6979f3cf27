"""What a checkpoint declares of its quantization."""

from collections.abc import Mapping
from typing import Any

from codejoule.config import ConfigError
from codejoule.config.schema import QuantConfig
from codejoule.domain import METHODS
from codejoule.models.quantization import DeclaredQuantization, quantizer_of
from codejoule.models.quantization.packed_config import LAYOUT_FIELDS, agreed, word

_OLDEST = "gptq"
"""Meant where neither a method nor a layout is named: files of their own came before there was
more than one method."""


def declared_quantization(config: Mapping[str, object]) -> DeclaredQuantization | None:
    """The meaning of a checkpoint's ``quantization_config``; None for an unquantized one.

    Raises `ConfigError` for a value that is not understood, for fields that contradict each
    other, and for a layout that no kernel here takes.
    """
    fields = config.get("quantization_config")
    if not isinstance(fields, dict):
        return None
    method = _method(fields)
    if method not in METHODS:
        return DeclaredQuantization(method=method)
    return quantizer_of(method).declared(fields)


def stated_quantization(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What a ``quantization_config`` states without what is meant where it says nothing."""
    method = _method(fields)
    stated = quantizer_of(method).stated(fields) if method in METHODS else {}
    return {"method": method} | stated


def _method(fields: Mapping[str, Any]) -> str:
    method: str | None = agreed(fields, word, "quant_method", "method")
    layout = agreed(fields, word, *LAYOUT_FIELDS)
    by_layout = (name for name, facts in METHODS.items() if layout in facts.layouts)
    return method or next(by_layout, _OLDEST)


def refuse_differences(
    declared: DeclaredQuantization, quant: QuantConfig, *, where: str, remedy: str
) -> None:
    """Refuse a checkpoint that declares another quantization than `quant`; `ConfigError`."""
    if quant.bits is None:
        raise ConfigError(
            f"quant=none with {where}: its weights are quantized with {declared}; choose the "
            "quant that it has, or unquantized weights"
        )
    if found := declared.differences(quant):
        raise ConfigError(f"quant={quant.name} with {where}: {'; '.join(found)}; {remedy}")
