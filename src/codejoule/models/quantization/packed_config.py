"""Fields of a ``quantization_config`` of packed weights: each is obeyed, or refused."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from codejoule.config import ConfigError

LAYOUT_FIELDS = ("checkpoint_format", "format", "version")
"""Names under which quantizers write the layout of the tensors."""

_UNREAD = {
    "is_marlin_format": "Marlin's own layout",
    "lm_head": "a quantized output layer",
    "rotation": "rotated weights",
    "activation": "quantized activations",
    "adapter": "an adapter",
    "extra_config": "settings by layer",
}


def stated_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What the fields of gptqmodel and of the tools before it state, by our names."""
    zero_point = agreed(fields, truth, "zero_point")
    sym = None if zero_point is None else not zero_point
    read = {
        "layout": agreed(fields, word, *LAYOUT_FIELDS),
        "bits": agreed(fields, whole, "bits", "w_bit", "wbits"),
        "group_size": agreed(fields, whole, "group_size", "q_group_size"),
        "sym": agreed({**fields, "not zero_point": sym}, truth, "sym", "not zero_point"),
        "desc_act": agreed(fields, truth, "desc_act"),
    }
    return {name: value for name, value in read.items() if value is not None}


def agreed(fields: Mapping[str, Any], read: Callable[[str, Any], Any], *names: str) -> Any:
    """What the fields of these `names` say, all of which mean the same; None without any."""
    said = {name: read(name, fields[name]) for name in names if fields.get(name) is not None}
    if len(set(said.values())) > 1:
        both = " and ".join(f"{name}={value}" for name, value in said.items())
        raise ConfigError(
            f"quantization_config says {both}, which contradict each other; keep the one that is "
            "true of the weights"
        )
    return next(iter(said.values()), None)


def word(name: str, value: Any) -> str:
    """A name, in lower case."""
    if not isinstance(value, str):
        raise ConfigError(f"quantization_config.{name}={value!r}: must be a name")
    return value.lower()


def whole(name: str, value: Any) -> int:
    """A whole number, which some write as text."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d+\s*", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"quantization_config.{name}={value!r}: must be a whole number")
    return value


def truth(name: str, value: Any) -> bool:
    """Yes or no, which some write as text or number."""
    meant = {"true": True, "1": True, "false": False, "0": False}.get(str(value).strip().lower())
    if meant is None:
        raise ConfigError(f"quantization_config.{name}={value!r}: must be true or false")
    return meant


def refuse_unread(fields: Mapping[str, Any]) -> None:
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


def excepted_layers(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Expressions for the paths of the layers that are left unquantized."""
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
