"""What a checkpoint declares of its quantization: each field is obeyed, or refused."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from codejoule.config import ConfigError
from codejoule.config.schema import Method, QuantConfig

GPTQ_V2 = "gptq_v2"
_LAYOUTS = {Method.gptq.name: ("gptq", GPTQ_V2), Method.awq.name: ("gemm",)}
"""Layouts that can be read, the one that is meant where none is named first."""

_GROUP_SIZE = 128
"""Where none is named: gptqmodel's own."""

_UNREAD = {
    "is_marlin_format": "Marlin's own layout",
    "lm_head": "a quantized output layer",
    "rotation": "rotated weights",
    "activation": "quantized activations",
    "adapter": "an adapter",
    "extra_config": "settings by layer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredQuantization:
    """What a ``quantization_config`` says; None for what it leaves open.

    Of methods other than GPTQ and AWQ only the name is read.
    """

    method: str
    """As the checkpoint writes it, in lower case."""
    bits: int | None = None
    group_size: int | None = None
    sym: bool | None = None
    desc_act: bool | None = None
    layout: str | None = None
    """gptqmodel's name of how tensors are packed: ``gptq`` keeps zero points less one, ``gptq_v2``
    and AWQ's ``gemm`` as they are."""
    excepted: tuple[str, ...] = ()
    """Expressions found in the paths of the layers that are left unquantized."""

    def __str__(self) -> str:
        return self.method if self.bits is None else f"{self.method} ({self.bits} bits)"

    def differences(self, quant: QuantConfig) -> list[str]:
        """Where this differs from what was asked."""
        asked = {
            "method": quant.method.name,
            "bits": quant.bits,
            "group_size": quant.group_size,
            "sym": quant.sym,
            "desc_act": quant.desc_act,
        }
        return [
            f"{key}: asked {value}, the checkpoint has {there}"
            for key, value in asked.items()
            if (there := getattr(self, key)) is not None
            and there != value
            and (key, value) != ("group_size", None)
        ]


def read_quantization(fields: Mapping[str, Any]) -> DeclaredQuantization:
    """The meaning of a ``quantization_config``, as gptqmodel 7.6 takes it.

    Raises `ConfigError` for a value that is not understood, for fields that contradict each
    other, and for a layout that no kernel here takes.
    """
    stated = stated_fields(fields)
    method = stated["method"]
    if method not in _LAYOUTS:
        return DeclaredQuantization(method=method)
    layouts = _LAYOUTS[method]
    layout = stated.setdefault("layout", layouts[0])
    if layout not in layouts:
        raise ConfigError(
            f"its tensors are in the layout {layout!r}, which nothing here can read for {method}; "
            f"name a checkpoint in one of these: {', '.join(layouts)}"
        )
    stated.setdefault("group_size", _GROUP_SIZE)
    _refuse_unread(fields)
    return DeclaredQuantization(**stated, excepted=_excepted(fields))


def stated_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The method, and of GPTQ and AWQ all else that `fields` state, by `DeclaredQuantization`'s
    names."""
    method = _agreed(fields, _word, "quant_method", "method")
    layout = _agreed(fields, _word, "checkpoint_format", "format", "version")
    if method is None:
        # Files of their own came before there was more than one method.
        method = Method.awq.name if layout in _LAYOUTS["awq"] else Method.gptq.name
    if method not in _LAYOUTS:
        return {"method": method}
    zero_point = _agreed(fields, _truth, "zero_point")
    sym = None if zero_point is None else not zero_point
    read = {
        "method": method,
        "layout": layout,
        "bits": _agreed(fields, _whole, "bits", "w_bit", "wbits"),
        "group_size": _agreed(fields, _whole, "group_size", "q_group_size"),
        "sym": _agreed({**fields, "not zero_point": sym}, _truth, "sym", "not zero_point"),
        "desc_act": _agreed(fields, _truth, "desc_act"),
    }
    return {name: value for name, value in read.items() if value is not None}


def _agreed(fields: Mapping[str, Any], read: Callable[[str, Any], Any], *names: str) -> Any:
    """What the fields of these `names` say, all of which mean the same; None without any."""
    said = {name: read(name, fields[name]) for name in names if fields.get(name) is not None}
    if len(set(said.values())) > 1:
        both = " and ".join(f"{name}={value}" for name, value in said.items())
        raise ConfigError(
            f"quantization_config says {both}, which contradict each other; keep the one that is "
            "true of the weights"
        )
    return next(iter(said.values()), None)


def _word(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"quantization_config.{name}={value!r}: must be a name")
    return value.lower()


def _whole(name: str, value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d+\s*", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"quantization_config.{name}={value!r}: must be a whole number")
    return value


def _truth(name: str, value: Any) -> bool:
    meant = {"true": True, "1": True, "false": False, "0": False}.get(str(value).strip().lower())
    if meant is None:
        raise ConfigError(f"quantization_config.{name}={value!r}: must be true or false")
    return meant


def _refuse_unread(fields: Mapping[str, Any]) -> None:
    """Refuse what would change how tensors are read, or what is computed with them."""
    words = str(fields.get("pack_dtype") or "int32").removeprefix("torch.")
    if words != "int32":
        raise ConfigError(
            f"quantization_config.pack_dtype={words}: the kernels take weights packed into int32 "
            "alone; pack them again, or name another checkpoint"
        )
    found = [
        f"{meaning} ({name})"
        for name, meaning in _UNREAD.items()
        if fields.get(name) and str(fields[name]).lower() not in ("false", "0")
    ]
    if fields.get("backend") == "llm-awq":
        found.append("a layout of its own (backend=llm-awq)")
    own = [name for name in fields.get("dynamic") or () if not name.startswith("-:")]
    if own:
        found.append(f"settings of their own for the layers {', '.join(own)} (dynamic)")
    if found:
        raise ConfigError(
            f"quantization_config declares {'; '.join(found)}, which nothing here reads; name a "
            "checkpoint without"
        )


def _excepted(fields: Mapping[str, Any]) -> tuple[str, ...]:
    found = [re.escape(name) for name in fields.get("modules_to_not_convert") or ()]
    for name in fields.get("dynamic") or ():
        try:
            # What follows "-:" is matched from the beginning of a layer's path.
            found.append(re.compile(f"^(?:{name[2:]})").pattern)
        except re.error as error:
            raise ConfigError(
                f"quantization_config.dynamic: {name!r} is no regular expression ({error})"
            ) from error
    return tuple(found)
