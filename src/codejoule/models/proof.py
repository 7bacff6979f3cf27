"""The proof that a loaded model is what was asked for, module by module."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from codejoule.config import UserError
from codejoule.config.schema import QuantConfig
from codejoule.models.compat import kept_in_float32
from codejoule.models.facts import LinearLayer, inspect_layers
from codejoule.models.folder import DECODER
from codejoule.models.placement import Placement
from codejoule.models.quantization import quantizer_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_NAMED = 3
# Kernels pad shapes that are no multiple of their tiles.
_PADDING = 1.25


def prove_complete(info: Mapping[str, Any], source: str, *, zero: Iterable[str] = ()) -> None:
    """Refuse a model of which transformers had to invent, or leave out, any tensor.

    `info` is what ``from_pretrained(output_loading_info=True)`` gave, `zero` the names of
    tensors that may be left out. Raises `UserError`.
    """
    invented = "which would be filled with random numbers"
    seen = (
        ("lacks", info.get("missing_keys", ()), invented),
        ("holds in another shape", info.get("mismatched_keys", ()), invented),
        (
            "holds",
            set(info.get("unexpected_keys", ())) - set(zero),
            "which the architecture has no place for",
        ),
    )
    problems = [
        f"{verb} {len(names)} tensor{'s' * (len(names) > 1)} ({_first(sorted(map(str, names)))}), "
        f"{consequence}"
        for verb, names, consequence in seen
        if names
    ]
    problems += [str(error) for error in info.get("error_msgs", ())][:1]
    if problems:
        raise UserError(
            f"{source}: not the weights of this architecture: the checkpoint "
            f"{'; it '.join(problems)}; download it again, or name one that is complete"
        )


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def prove_quantization(
    layers: Sequence[LinearLayer], quant: QuantConfig, source: str, *, excepted: Sequence[str]
) -> None:
    """Refuse a model whose layers are not quantized as asked.

    Every linear layer of the decoder must have the bits and group size of `quant`, and no more
    memory than they take, save those in whose path an expression of `excepted` is found (which
    the checkpoint declares unquantized); without quantization none may be quantized. Raises
    `UserError`.
    """
    quantized = [layer for layer in layers if layer.bits is not None]
    if quant.bits is None:
        if quantized:
            raise _not_as_asked(source, quant, "quantized", [layer.name for layer in quantized])
        return
    plain = [
        layer.name
        for layer in layers
        if layer.bits is None
        and DECODER in layer.name
        and not any(re.search(part, layer.name) for part in excepted)
    ]
    if plain or not quantized:
        raise _not_as_asked(source, quant, "not quantized", plain)
    wrong = [
        f"{layer.name} ({layer.bits} bits, groups of {layer.group_size})"
        for layer in quantized
        if layer.bits != quant.bits
        or (quant.group_size is not None and not _same_group(layer, quant.group_size))
    ]
    if wrong:
        raise _not_as_asked(source, quant, "quantized otherwise", wrong)
    kernels = quantizer_of(quant.method.name).kernels
    to_int8 = {kernel.kind for kernel in kernels if kernel.rounds_to_int8}
    large = [
        f"{layer.name} ({layer.stored_bits:.1f} bits in memory)"
        for layer in quantized
        if not 1 <= layer.stored_bits / (8 if layer.kernel in to_int8 else quant.bits) <= _PADDING
    ]
    if large:
        raise _not_as_asked(source, quant, "not packed", large)


def _same_group(layer: LinearLayer, asked: int) -> bool:
    whole = (-1, layer.in_features)
    return layer.group_size in whole if asked == -1 else layer.group_size == asked


def _not_as_asked(source: str, quant: QuantConfig, how: str, names: Sequence[str]) -> UserError:
    return UserError(
        f"{source}: asked for quant={quant.name}, but {len(names) or 'all'} layers are {how}"
        f"{': ' + _first(names) if names else ''}; name a checkpoint that has what quant says, "
        "or change quant"
    )


def prove_kernels(
    layers: Sequence[LinearLayer], quant: QuantConfig, *, device: str, source: str
) -> str | None:
    """Name of the kernel that all quantized layers run on; None without any.

    Raises `UserError` where a layer runs on one that ``quant.kernel`` does not accept, such as
    the library's fallback.
    """
    if quant.bits is None:
        return None
    quantizer = quantizer_of(quant.method.name)
    accepted = {kernel.kind: kernel.name for kernel in quantizer.accepted_kernels(quant, device)}
    quantized = [layer for layer in layers if layer.bits is not None]
    others = [layer for layer in quantized if layer.kernel not in accepted]
    if others:
        kinds = ", ".join(sorted({layer.kernel for layer in others}))
        names = ", ".join(sorted(set(accepted.values())))
        slow = next((kernel.name for kernel in quantizer.kernels if kernel.fallback), "auto")
        raise UserError(
            f"{source}: quant.kernel={quant.kernel} accepts {names} on {device}, but "
            f"{len(others)} layers run on {kinds}: {_first([layer.name for layer in others])}; "
            "the kernels above do not take this model's shapes or this machine: change "
            f"quant.group_size or the method, or ask for the slow one (quant.kernel={slow})"
        )
    return " + ".join(sorted({accepted[layer.kernel] for layer in quantized}))


def prove_no_experts_left(
    model: "torch.nn.Module", layers: Sequence[LinearLayer], quant: QuantConfig, source: str
) -> None:
    """Refuse a quantized model that keeps unquantized weights outside of its linear layers.

    transformers 5 holds all experts of a layer in one tensor, which is no linear layer.
    """
    if quant.bits is None:
        return
    own = tuple(f"{layer.name}." for layer in layers)
    left = [
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim > 2 and not name.startswith(own)
    ]
    if left:
        raise _not_as_asked(source, quant, "not quantized", left)


def prove_placement(
    model: "PreTrainedModel", *, dtype: "torch.dtype", place: Placement, source: str
) -> None:
    """Refuse parameters in another dtype or on another device than asked; `UserError`."""
    import torch

    kept = kept_in_float32(model)
    elsewhere = [
        f"{name} ({tensor.device})"
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        if (asked := torch.device(place.of(name))).type != tensor.device.type
        or asked.index not in (None, tensor.device.index)
    ]
    if elsewhere:
        raise UserError(
            f"{source}: {len(elsewhere)} tensors are not on {place.device} where they should be: "
            f"{_first(elsewhere)}; free memory on the device, or choose another with device="
        )
    packed = tuple(f"{layer.name}." for layer in inspect_layers(model) if layer.bits is not None)
    other = [
        f"{name} ({parameter.dtype})"
        for name, parameter in model.named_parameters()
        if parameter.is_floating_point()
        and parameter.dtype != dtype
        and not (packed and name.startswith(packed))
        and not any(part in name for part in kept)
    ]
    if other:
        raise UserError(
            f"{source}: asked for {dtype}, but {len(other)} parameters have another dtype: "
            f"{_first(other)}; set model.dtype to what the weights can have"
        )
