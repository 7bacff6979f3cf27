"""Checkpoints in the format of compressed-tensors, which LLM Compressor writes."""

import re
from collections.abc import Mapping
from typing import Any

from codejoule.config import ConfigError
from codejoule.config.schema import QuantConfig
from codejoule.models.quantization.base import DeclaredQuantization
from codejoule.models.quantization.packed_config import whole
from codejoule.models.quantization.served import ServedQuantizer

_ROUTERS = ("re:.*mlp.gate$", "re:.*mlp.router$")
_CHANNEL = -1


class Compressed(ServedQuantizer):
    """One scheme of that format, told from the others by kind and bits of weights and inputs."""

    format = ""
    """How tensors are packed."""
    type = ""
    """``int`` or ``float``, of weights and inputs."""
    input_bits: int | None = None
    """Bits to which inputs are rounded at each step; None where they stay as they are."""

    def declared(self, fields: Mapping[str, Any]) -> DeclaredQuantization | None:
        """By its groups, which must all be of this scheme."""
        groups = fields.get("config_groups")
        if not isinstance(groups, Mapping) or not groups:
            return None
        if not all(self._is_of(group) for group in groups.values()):
            return None
        if fields.get("kv_cache_scheme"):
            raise ConfigError(
                "quantization_config.kv_cache_scheme: scales for keys and values, which "
                "engine.kv_dtype=fp8 does without; remove the field, or name another checkpoint"
            )
        weights = [group["weights"] for group in groups.values()]
        sizes = {_group_size(one) for one in weights}
        symmetric = {bool(one.get("symmetric", True)) for one in weights}
        if len(sizes) > 1 or len(symmetric) > 1:
            raise ConfigError(
                "quantization_config.config_groups: its groups differ in group_size or symmetric; "
                "name a checkpoint whose layers are all alike"
            )
        return DeclaredQuantization(
            method=self.name,
            bits=self.facts.bits[0],
            group_size=sizes.pop(),
            sym=symmetric.pop(),
            excepted=tuple(
                name.removeprefix("re:") if name.startswith("re:") else re.escape(name)
                for name in fields.get("ignore") or ()
            ),
        )

    def _is_of(self, group: Mapping[str, Any]) -> bool:
        weights, inputs = group.get("weights") or {}, group.get("input_activations")
        there = (weights.get("type"), weights.get("num_bits"))
        rounded = None if inputs is None else inputs.get("num_bits")
        return there == (self.type, self.facts.bits[0]) and rounded == self.input_bits

    def declaration(self, quant: QuantConfig, architecture: Mapping[str, Any]) -> dict[str, Any]:
        """As LLM Compressor writes it, routers and head left as they are."""
        size = quant.group_size
        weights: dict[str, Any] = {"num_bits": quant.bits, "type": self.type, "dynamic": False}
        weights |= {"symmetric": quant.sym, "strategy": "channel"}
        if size not in (None, _CHANNEL):
            weights |= {"strategy": "group", "group_size": size}
        group = {"targets": ["Linear"], "weights": weights, "output_activations": None}
        return {
            "quant_method": "compressed-tensors",
            "format": self.format,
            "quantization_status": "compressed",
            "ignore": ["lm_head", *_ROUTERS],
            "config_groups": {"group_0": group | {"input_activations": self.inputs()}},
        }

    def inputs(self) -> dict[str, Any] | None:
        """How inputs are rounded: token by token, at each step."""
        if self.input_bits is None:
            return None
        kind = {"num_bits": self.input_bits, "type": self.type, "symmetric": True}
        return kind | {"strategy": "token", "dynamic": True}


def _group_size(weights: Mapping[str, Any]) -> int:
    strategy = weights.get("strategy")
    if strategy == "channel":
        return _CHANNEL
    size = weights.get("group_size")
    if strategy not in ("group", "tensor_group") or size is None:
        raise ConfigError(
            f"quantization_config.config_groups: strategy={strategy!r}, group_size={size!r}, of "
            "which nothing here knows how much memory it takes; name a checkpoint with scales by "
            "group or channel"
        )
    return int(whole("group_size", size))
