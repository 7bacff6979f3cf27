"""The exact architecture of a model with random weights, made where it will run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from codejoule.config.schema import Method, QuantConfig
from codejoule.models.packed import (
    empty_packed_model,
    finish_packed_model,
    materialize,
    packed_layers,
)
from codejoule.models.placement import Placement, spread
from codejoule.models.proof import linear_layers
from codejoule.models.value_proof import sampled_layers

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

_SPREAD = 0.02


def random_model(
    architecture: Mapping[str, Any], *, seed: int, dtype: "torch.dtype", place: Placement
) -> "PreTrainedModel":
    """Build the model that `architecture` (a config.json) describes, in its place.

    The same seed gives the same weights on the same device; torch's random state is left as
    it was.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = architecture_config(architecture)
    if place.device_map is None:
        with _seeded(seed, place.device), torch.device(place.device):
            made: PreTrainedModel = AutoModelForCausalLM.from_config(
                config, dtype=dtype, trust_remote_code=False
            )
        return made
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        made = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    materialize(made, place)
    with _seeded(seed, place.device), torch.no_grad():
        for name, parameter in made.named_parameters():
            _fill(name, parameter, _spread_of(config))
    spread(made, place)
    return made


def random_packed_model(
    architecture: Mapping[str, Any],
    quant: QuantConfig,
    *,
    seed: int,
    dtype: "torch.dtype",
    place: Placement,
) -> tuple["PreTrainedModel", dict[str, dict[str, "torch.Tensor"]]]:
    """The same with packed linear layers of random bits, as `quant` says.

    The bits stand for weights as spread out as an untrained model's, so that its outputs are
    finite. No unquantized model is made on the way. Also returns the tensors of some layers, as a
    checkpoint would store them.
    """
    import torch

    config = architecture_config(architecture)
    deviation = _spread_of(config)
    model = empty_packed_model(config, quant, dtype=dtype, place=place)
    inside = []
    with _seeded(seed, place.device), torch.no_grad():
        for name, layer in packed_layers(model):
            inside.append(f"{name}.")
            _fill_packed(layer, quant, deviation)
        packed = tuple(inside)
        for name, parameter in model.named_parameters():
            if not name.startswith(packed):
                _fill(name, parameter, deviation)
    stored = {
        layer.name: {
            part: tensor.to("cpu", copy=True)
            for part, tensor in model.get_submodule(layer.name).state_dict().items()
        }
        for layer in sampled_layers(linear_layers(model))
    }
    finish_packed_model(model, quant, "random")
    spread(model, place)
    return model, stored


def architecture_config(architecture: Mapping[str, Any]) -> "PretrainedConfig":
    """transformers' own form of `architecture`."""
    from transformers import AutoConfig

    fields = dict(architecture)
    return AutoConfig.for_model(fields.pop("model_type"), **fields)


def _spread_of(config: "PretrainedConfig") -> float:
    return float(getattr(config, "initializer_range", None) or _SPREAD)


@contextmanager
def _seeded(seed: int, device: str) -> Iterator[None]:
    import torch

    gpus = range(torch.cuda.device_count()) if device == "cuda" else ()
    with torch.random.fork_rng(devices=list(gpus)):
        torch.manual_seed(seed)
        yield


def _fill(name: str, parameter: "torch.Tensor", spread: float) -> None:
    if parameter.ndim > 1:
        parameter.normal_(std=spread)
    elif name.endswith(".bias"):
        parameter.zero_()
    else:
        parameter.fill_(1)


def _fill_packed(layer: Any, quant: QuantConfig, spread: float) -> None:
    """Random bits, zero points in the middle, and the scale that gives weights this spread."""
    import torch

    assert quant.bits is not None
    words = layer.qweight
    words.copy_(torch.randint(-(2**31), 2**31, words.shape, dtype=words.dtype, device=words.device))
    _balance(words, quant.bits)
    # GPTQ's files hold zero points less one.
    middle = 2 ** (quant.bits - 1) - (quant.method is Method.gptq)
    word = sum(middle << shift for shift in range(0, 32, quant.bits))
    layer.qzeros.fill_(word - 2**32 if word >= 2**31 else word)
    # Steps from the zero point: -top to top, each as likely, save that 0 is twice so.
    top = 2 ** (quant.bits - 1) - 1
    steps_spread = (top * (top + 1) * (2 * top + 1) / 3 / 2**quant.bits) ** 0.5
    layer.scales.uniform_(0.5, 1.5).mul_(spread / steps_spread)
    if quant.method is Method.gptq:
        columns = torch.arange(layer.in_features, device=words.device, dtype=torch.int32)
        layer.g_idx.copy_(columns // layer.group_size)
    if layer.bias is not None:
        layer.bias.normal_(std=spread)


def _balance(words: "torch.Tensor", bits: int) -> None:
    """Put the zero point in place of the lowest value, which has no opposite.

    Else the mean weight is half a step below 0, and each layer multiplies what its inputs have in
    common by hundreds: a 7B model overflows in float16.
    """
    seen = words
    for shift in (1, 2, 4):
        if shift < bits:
            seen = seen | (seen >> shift)
    lowest_bits = sum(1 << place for place in range(0, 32, bits))
    words.bitwise_or_((~seen & lowest_bits) << (bits - 1))
