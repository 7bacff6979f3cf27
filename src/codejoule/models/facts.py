"""What was loaded, as it is on the device: the model and each of its linear layers."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from codejoule.models.compat import tensors_inside
from codejoule.models.quantization import quantizers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Facts of a loaded model, inspected rather than assumed."""

    architecture: str
    """Class of the model, e.g. ``Qwen2ForCausalLM``."""
    n_parameters: int
    """Exact number of parameters; a quantized layer counts its weights, not its packing."""
    memory_bytes: int
    """Bytes of all parameters and buffers."""
    weights: str
    """``hub``, ``local``, ``bundled`` or ``random``."""
    source: str
    """Where they came from, e.g. ``hub:ID@COMMIT``."""
    checksum: str
    """What identifies the weights: a SHA-256, the hub's commit, or the random seed."""
    adapter: Mapping[str, Any] | None
    """What tunes them, its checksum, that of the weights it was trained with, and whether it is
    merged into them; None for a model without one."""
    stored_as: str | None
    """How a GGUF file stores them and what became of that; None for weights that were loaded as
    they lie there."""
    stored_modules: Sequence[Mapping[str, Any]] | None
    """The tensors of that file with the type of each."""
    dtype: str
    """Dtype of the unquantized parameters."""
    device: str
    """Device of all parameters, ``cpu`` or ``cuda``."""
    device_map: Mapping[str, int] | None
    """GPU of each part by its path, where there are several; None where one holds everything."""
    attention: str
    """transformers' attention implementation."""
    context_tokens: int | None
    """Positions that the model was made for; None where its config names none."""
    quantization: str
    """``none`` or method, bits and group size, e.g. ``gptq-4bit-g128``."""
    kernel: str | None
    """Name of the kernel of all quantized layers, as ``quant.kernel`` has it; None without."""
    bits: int | None
    """Bits of every quantized layer; None without quantization."""
    group_size: int | None
    """Group size of every quantized layer; None without quantization."""
    calibration_texts: int | None
    """Texts that the weights were calibrated with; None unless they were quantized here."""
    linear_quantized: int
    """Number of quantized linear layers."""
    linear_unquantized: int
    """Number of other linear layers."""
    kernels: Mapping[str, int]
    """Class of each kind of linear layer and how many there are."""
    kernel_notes: Mapping[str, str]
    """What the kernels above do to numbers beyond their name."""
    layers: Sequence[Mapping[str, Any]]
    """Every linear layer: path, class, bits, group size, bits in memory, dtype, device, shape;
    those alike in all but their numbers as one entry with their count."""
    ignored_zero_biases: int
    """Tensors left out because they are biases of zero that the architecture has not."""
    cpu_threads: int | None
    """Threads of the CPU's kernels; None on a GPU."""
    versions: Mapping[str, str]
    """Versions of torch, transformers and the libraries that quantize."""
    values: Sequence[Mapping[str, Any]]
    """Quantized layers whose outputs were compared with what the checkpoint stores: path, kernel,
    number of outputs, of zero points among them, and relative error."""

    def to_json(self) -> dict[str, Any]:
        """The facts as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model on its device, its tokenizer, and the proof of what they are."""

    model: "PreTrainedModel"
    """In evaluation mode."""
    tokenizer: "PreTrainedTokenizerBase"
    """Pads on the left; has a padding token."""
    facts: ModelFacts
    """What was loaded."""


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


def inspect_layers(model: "torch.nn.Module") -> list[LinearLayer]:
    """All linear layers in order; what a quantized layer keeps inside itself is skipped."""
    import torch

    layers: list[LinearLayer] = []
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if inside and name.startswith(inside):
            continue
        seen = (quantizer.inspect(module) for quantizer in quantizers())
        quantized = next((found for found in seen if found), None)
        if quantized is not None:
            inside = (*inside, f"{name}.")
        if quantized is not None or isinstance(module, torch.nn.Linear):
            layers.append(_linear_layer(name, module, quantized))
    return layers


def _linear_layer(name: str, module: Any, quantized: tuple[str, int, int] | None) -> LinearLayer:
    kernel, bits, group_size = quantized or (type(module).__name__, None, None)
    tensors = [tensor for tensor in all_tensors(module) if tensor.numel()]
    largest = max(tensors, key=lambda tensor: tensor.numel() * tensor.element_size())
    weights = module.in_features * module.out_features
    scales = [tensor for tensor in tensors if tensor.is_floating_point()]
    return LinearLayer(
        name=name,
        kernel=kernel,
        in_features=module.in_features,
        out_features=module.out_features,
        has_bias=getattr(module, "bias", None) is not None,
        bits=bits,
        group_size=group_size,
        stored_bits=8 * largest.numel() * largest.element_size() / weights,
        dtype=str((scales or [largest])[0].dtype).removeprefix("torch."),
        device=", ".join(sorted({str(tensor.device) for tensor in tensors})),
    )


def all_tensors(module: "torch.nn.Module") -> Iterator["torch.Tensor"]:
    """Parameters and buffers, and what tensor subclasses keep inside theirs."""
    for part in module.modules():
        for tensor in chain(part.parameters(recurse=False), part.buffers(recurse=False)):
            yield from tensors_inside(tensor)


def kind_of(layer: LinearLayer) -> str:
    """Its path without the numbers of blocks and experts."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", layer.name)


def sampled_layers(layers: Sequence[LinearLayer]) -> list[LinearLayer]:
    """One quantized layer of each kind, from the first kind's first to the last kind's last."""
    kinds: dict[str, list[LinearLayer]] = {}
    for layer in layers:
        if layer.bits is not None:
            kinds.setdefault(kind_of(layer), []).append(layer)
    last = max(len(kinds) - 1, 1)
    return [alike[(len(alike) - 1) * i // last] for i, alike in enumerate(kinds.values())]


def describe_layers(layers: Iterable[LinearLayer]) -> list[dict[str, Any]]:
    """Layers that are alike in all but their number, as one entry with their count."""
    counts = Counter(replace(layer, name=kind_of(layer)) for layer in layers)
    return [
        {key: value for key, value in asdict(layer).items() if key != "has_bias"} | {"count": count}
        for layer, count in counts.items()
    ]


def n_parameters(model: "torch.nn.Module", layers: Sequence[LinearLayer]) -> int:
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
