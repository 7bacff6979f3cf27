"""The proof that a loaded model is what was asked for, module by module."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from codejoule.config import UserError
from codejoule.config.schema import Method, QuantConfig
from codejoule.models.kernels import FALLBACK, accepted_kernels, stored_bits
from codejoule.models.placement import Placement

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_NAMED = 3
_DECODER = ".layers."
# Kernels pad shapes that are no multiple of their tiles.
_PADDING = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearLayer:
    """One linear layer as it is on the device."""

    name: str
    """Its path in the model."""
    kernel: str
    """Class of what multiplies: the module's, or its weight's where that decides."""
    in_features: int
    out_features: int
    has_bias: bool
    bits: int | None
    """Bits per weight; None for an unquantized layer."""
    group_size: int | None
    """Weights that share a scale; None for an unquantized layer."""
    stored_bits: float
    """Bits that memory holds for each weight, scales left out."""
    dtype: str
    """Dtype of the weights, or of the scales where weights are packed."""
    device: str
    """Where its tensors lie, such as ``cuda:0``."""


def linear_layers(model: "torch.nn.Module") -> list[LinearLayer]:
    """All linear layers in order; what a quantized layer keeps inside itself is skipped."""
    import torch

    layers: list[LinearLayer] = []
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if inside and name.startswith(inside):
            continue
        # By name, so that an unquantized model needs no import of gptqmodel (3 s).
        packed = any(kind.__name__ == "BaseQuantLinear" for kind in type(module).__mro__)
        if packed:
            inside = (*inside, f"{name}.")
        if packed or isinstance(module, torch.nn.Linear):
            layers.append(_linear_layer(name, module, packed=packed))
    return layers


def _linear_layer(name: str, module: Any, *, packed: bool) -> LinearLayer:
    bits, group_size = (module.bits, module.group_size) if packed else _of_weight(module.weight)
    tensors = [tensor for tensor in all_tensors(module) if tensor.numel()]
    largest = max(tensors, key=lambda tensor: tensor.numel() * tensor.element_size())
    weights = module.in_features * module.out_features
    kind = type(module.weight).__name__ if _is_int8_tensor(module) else type(module).__name__
    scales = [tensor for tensor in tensors if tensor.is_floating_point()]
    return LinearLayer(
        name=name,
        kernel=kind,
        in_features=module.in_features,
        out_features=module.out_features,
        has_bias=getattr(module, "bias", None) is not None,
        bits=bits,
        group_size=group_size,
        stored_bits=8 * largest.numel() * largest.element_size() / weights,
        dtype=str((scales or [largest])[0].dtype).removeprefix("torch."),
        device=", ".join(sorted({str(tensor.device) for tensor in tensors})),
    )


def _of_weight(weight: Any) -> tuple[int | None, int | None]:
    """Bits and group size by a weight that bitsandbytes or torchao made; else None."""
    kind = type(weight).__name__
    if kind == "Params4bit":
        return 4, int(weight.blocksize)
    if kind in ("Int8Params", "Int8Tensor"):
        return 8, -1
    return None, None


def _is_int8_tensor(module: Any) -> bool:
    return type(getattr(module, "weight", None)).__name__ == "Int8Tensor"


def all_tensors(module: "torch.nn.Module") -> Iterator["torch.Tensor"]:
    """Parameters and buffers, and what tensor subclasses keep inside theirs."""
    import torch

    def flat(tensor: "torch.Tensor") -> Iterator["torch.Tensor"]:
        parts = getattr(tensor, "__tensor_flatten__", None)
        if parts is None or type(tensor) in (torch.Tensor, torch.nn.Parameter):
            yield tensor.data
            state = getattr(tensor, "quant_state", None)
            held = [getattr(state, key, None) for key in ("absmax", "code")]
            held += [getattr(tensor, key, None) for key in ("CB", "SCB")]
            yield from (part for part in held if isinstance(part, torch.Tensor))
            return
        for name in parts()[0]:
            yield from flat(getattr(tensor, name))

    for part in module.modules():
        for tensor in chain(part.parameters(recurse=False), part.buffers(recurse=False)):
            yield from flat(tensor)


def describe_layers(layers: Iterable[LinearLayer]) -> list[dict[str, Any]]:
    """Layers that are alike in all but their number, as one entry with their count."""
    counts: Counter[tuple[object, ...]] = Counter(
        (
            re.sub(r"(?<=\.)\d+(?=\.)", "*", layer.name),
            layer.kernel,
            layer.bits,
            layer.group_size,
            layer.stored_bits,
            layer.dtype,
            layer.device,
            layer.in_features,
            layer.out_features,
        )
        for layer in layers
    )
    keys = ("name", "kernel", "bits", "group_size", "stored_bits", "dtype", "device",
            "in_features", "out_features")  # fmt: skip
    return [
        {**dict(zip(keys, entry, strict=True)), "count": count} for entry, count in counts.items()
    ]


def count_parameters(model: "torch.nn.Module", layers: Sequence[LinearLayer]) -> int:
    """Exact number of parameters, a quantized weight counting as one."""
    packed = {layer.name: layer for layer in layers if layer.bits is not None}
    prefixes = tuple(f"{name}." for name in packed)
    plain: int = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if not (prefixes and name.startswith(prefixes))
    )
    return plain + sum(
        layer.in_features * layer.out_features + (layer.out_features if layer.has_bias else 0)
        for layer in packed.values()
    )


def prove_complete(info: Mapping[str, Any], source: str, *, zero: Iterable[str] = ()) -> None:
    """Refuse a model of which transformers had to invent, or leave out, any tensor.

    `info` is what ``from_pretrained(output_loading_info=True)`` gave, `zero` the names of
    tensors that may be left out. Raises `UserError`.
    """
    missing = sorted(info.get("missing_keys", ()))
    mismatched = sorted(str(key) for key in info.get("mismatched_keys", ()))
    unexpected = sorted(set(info.get("unexpected_keys", ())) - set(zero))
    errors = [str(error) for error in info.get("error_msgs", ())]
    problems = [
        _problem(missing, "lacks", "which would be filled with random numbers"),
        _problem(mismatched, "holds in another shape", "which would be filled at random"),
        _problem(unexpected, "holds", "which the architecture has no place for"),
        errors[0] if errors else "",
    ]
    found = [problem for problem in problems if problem]
    if found:
        raise UserError(
            f"{source}: not the weights of this architecture: the checkpoint "
            f"{'; it '.join(found)}; download it again, or name one that is complete"
        )


def _problem(names: Sequence[str], verb: str, consequence: str) -> str:
    if not names:
        return ""
    return f"{verb} {len(names)} tensor{'s' * (len(names) > 1)} ({_first(names)}), {consequence}"


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
    if quant.method is Method.none:
        if quantized:
            raise _not_as_asked(source, quant, "quantized", [layer.name for layer in quantized])
        return
    plain = [
        layer.name
        for layer in layers
        if layer.bits is None
        and _DECODER in layer.name
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
    large = [
        f"{layer.name} ({layer.stored_bits:.1f} bits in memory)"
        for layer in quantized
        if not 1 <= layer.stored_bits / stored_bits(quant, layer.kernel) <= _PADDING
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
    if quant.method is Method.none:
        return None
    accepted = accepted_kernels(quant, device)
    quantized = [layer for layer in layers if layer.bits is not None]
    others = [layer for layer in quantized if layer.kernel not in accepted]
    if others:
        kinds = ", ".join(sorted({layer.kernel for layer in others}))
        names = ", ".join(sorted(set(accepted.values())))
        raise UserError(
            f"{source}: quant.kernel={quant.kernel} accepts {names} on {device}, but "
            f"{len(others)} layers run on {kinds}: {_first([layer.name for layer in others])}; "
            "the kernels above do not take this model's shapes or this machine: change "
            f"quant.group_size or the method, or ask for the slow one (quant.kernel={FALLBACK})"
        )
    return " + ".join(sorted({accepted[layer.kernel] for layer in quantized}))


def prove_no_experts_left(
    model: "torch.nn.Module", layers: Sequence[LinearLayer], quant: QuantConfig, source: str
) -> None:
    """Refuse a quantized model that keeps unquantized weights outside of its linear layers.

    transformers 5 holds all experts of a layer in one tensor, which is no linear layer.
    """
    if quant.method is Method.none:
        return
    own = tuple(f"{layer.name}." for layer in layers)
    left = [
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim > 2 and not name.startswith(own)
    ]
    if left:
        raise _not_as_asked(source, quant, "not quantized", left)


def _is_on(device: "torch.device", asked: "torch.device") -> bool:
    return device.type == asked.type and asked.index in (None, device.index)


def prove_placement(
    model: "PreTrainedModel", *, dtype: "torch.dtype", place: Placement, source: str
) -> None:
    """Refuse parameters in another dtype or on another device than asked; `UserError`."""
    import torch

    kept = [
        part
        for key in ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict")
        for part in getattr(model, key, None) or ()
    ]
    tensors = [*model.named_parameters(), *model.named_buffers()]
    elsewhere = [
        f"{name} ({tensor.device})"
        for name, tensor in tensors
        if not _is_on(tensor.device, torch.device(place.of(name)))
    ]
    if elsewhere:
        raise UserError(
            f"{source}: {len(elsewhere)} tensors are not on {place.device} where they should be: "
            f"{_first(elsewhere)}; free memory on the device, or choose another with device="
        )
    packed = tuple(f"{layer.name}." for layer in linear_layers(model) if layer.bits is not None)
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
