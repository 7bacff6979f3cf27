"""Layers as a checkpoint stores them, dequantized by the checkpoint's own words alone."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codejoule.config.schema import Method, QuantConfig
from codejoule.models.declared import weight_files
from codejoule.models.quantization_fields import GPTQ_V2

if TYPE_CHECKING:
    import torch

_PARTS = ("qweight", "qzeros", "scales", "g_idx", "bias", "weight")
_WORDS = 8
"""Words of packed zero points, and so four or eight outputs each, that are looked at."""
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""AWQ's ``gemm``: which of eight outputs each place of a word holds."""

Tensors = Mapping[str, "torch.Tensor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLayer:
    """Some outputs of one layer."""

    outputs: "torch.Tensor"
    """Their numbers; shape (outputs,)."""
    weight: "torch.Tensor"
    """Dequantized, or as it was before it was quantized while loading; shape (inputs, outputs)."""
    bias: "torch.Tensor | None"
    """Shape (outputs,)."""
    groups: "torch.Tensor | None" = None
    """Group of each input; None where no steps are stored."""
    steps: "torch.Tensor | None" = None
    """What a zero point higher by one takes from each weight of a group; (groups, outputs)."""
    zeros: "torch.Tensor | None" = None
    """Zero points; shape (groups, outputs)."""


def read_tensors(folder: Path, layers: Collection[str]) -> dict[str, dict[str, "torch.Tensor"]]:
    """The tensors of these layers as the folder's files hold them, by layer and name."""
    from safetensors import safe_open

    wanted = {f"{layer}.{part}": (layer, part) for layer in layers for part in _PARTS}
    found: dict[str, dict[str, torch.Tensor]] = {layer: {} for layer in layers}
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            for name in wanted.keys() & set(tensors.keys()):
                layer, part = wanted[name]
                found[layer][part] = tensors.get_tensor(name)
    return found


def stored_layer(
    tensors: Tensors, quant: QuantConfig, layout: str | None, *, device: "torch.device"
) -> StoredLayer:
    """Outputs spread over the layer, from the `tensors` of its file."""
    import torch

    if "weight" in tensors:
        outputs = _spread(tensors["weight"].shape[0], _WORDS * 8)
        return StoredLayer(
            outputs=outputs,
            weight=tensors["weight"][outputs].to(device).T.float(),
            bias=_bias(tensors, outputs, device),
        )
    assert quant.bits is not None and quant.group_size is not None
    each = 32 // quant.bits
    words = _spread(tensors["qzeros"].shape[1], _WORDS)
    order = _AWQ_ORDER if quant.method is Method.awq else range(each)
    outputs = (words[:, None] * each + torch.tensor(list(order))).flatten()
    packed_zeros = tensors["qzeros"][:, words].to(device)
    if quant.method is Method.gptq and layout != GPTQ_V2:
        packed_zeros = packed_zeros + one_in_each_place(quant.bits)
    zeros = _unpack(packed_zeros, quant.bits)
    steps = tensors["scales"][:, outputs].to(device).float()
    if quant.method is Method.awq:
        levels = _unpack(tensors["qweight"][:, words].to(device), quant.bits)
        size = quant.group_size if quant.group_size > 0 else levels.shape[0]
        groups = torch.arange(levels.shape[0], device=device) // size
    else:
        # Along the inputs: words below one another.
        packed = tensors["qweight"][:, outputs].to(device)
        levels = _unpack(packed.T, quant.bits).T
        groups = tensors["g_idx"].to(device).long()
    return StoredLayer(
        outputs=outputs,
        weight=(levels - zeros[groups]) * steps[groups],
        bias=_bias(tensors, outputs, device),
        groups=groups,
        steps=steps,
        zeros=zeros,
    )


def one_in_each_place(bits: int) -> int:
    """The word of 32 bits that holds a one in each of its places of so many bits."""
    return sum(1 << place for place in range(0, 32, bits))


def _unpack(words: "torch.Tensor", bits: int) -> "torch.Tensor":
    """The numbers in each row's words, the lowest bits first."""
    import torch

    places = torch.arange(0, 32, bits, dtype=torch.int32, device=words.device)
    return ((words[..., None] >> places) & (2**bits - 1)).flatten(-2)


def _spread(size: int, most: int) -> "torch.Tensor":
    """So many numbers below `size`, or all of them, from the first to the last."""
    import torch

    return torch.linspace(0, size - 1, min(size, most)).round().long()


def _bias(
    tensors: Tensors, outputs: "torch.Tensor", device: "torch.device"
) -> "torch.Tensor | None":
    return tensors["bias"][outputs].to(device).float() if "bias" in tensors else None
