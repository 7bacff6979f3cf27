"""The exact architecture of a model with random weights, made where it will run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from codejoule.config.schema import Method, QuantConfig
from codejoule.models.packed import empty_packed_model, finish_packed_model, packed_layers

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

_SPREAD = 0.02


def random_model(
    architecture: Mapping[str, Any], *, seed: int, dtype: "torch.dtype", device: str
) -> "PreTrainedModel":
    """Build the model that `architecture` (a config.json) describes, on `device`.

    The same seed gives the same weights on the same device; torch's random state is left as
    it was.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = architecture_config(architecture)
    with _seeded(seed, device), torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    assert isinstance(model, torch.nn.Module)
    return model


def random_packed_model(
    architecture: Mapping[str, Any],
    quant: QuantConfig,
    *,
    seed: int,
    dtype: "torch.dtype",
    device: str,
) -> "PreTrainedModel":
    """The same with packed linear layers of random bits, as `quant` says.

    The bits stand for weights as spread out as an untrained model's, so that its outputs are
    finite. No unquantized model is made on the way.
    """
    import torch

    config = architecture_config(architecture)
    spread = float(getattr(config, "initializer_range", None) or _SPREAD)
    model = empty_packed_model(config, quant, dtype=dtype, device=device)
    inside = []
    with _seeded(seed, device), torch.no_grad():
        for name, layer in packed_layers(model):
            inside.append(f"{name}.")
            _fill_packed(layer, quant, spread)
        packed = tuple(inside)
        for name, parameter in model.named_parameters():
            if not name.startswith(packed):
                _fill(name, parameter, spread)
    finish_packed_model(model, quant, "random")
    return model


def architecture_config(architecture: Mapping[str, Any]) -> "PretrainedConfig":
    """transformers' own form of `architecture`."""
    from transformers import AutoConfig

    fields = dict(architecture)
    return AutoConfig.for_model(fields.pop("model_type"), **fields)


@contextmanager
def _seeded(seed: int, device: str) -> Iterator[None]:
    import torch

    gpus = [torch.cuda.current_device()] if device == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
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
    # GPTQ's files hold zero points less one.
    middle = 2 ** (quant.bits - 1) - (quant.method is Method.gptq)
    word = sum(middle << shift for shift in range(0, 32, quant.bits))
    layer.qzeros.fill_(word - 2**32 if word >= 2**31 else word)
    uniform_spread = ((4**quant.bits - 1) / 12) ** 0.5
    layer.scales.uniform_(0.5, 1.5).mul_(spread / uniform_spread)
    if quant.method is Method.gptq:
        columns = torch.arange(layer.in_features, device=words.device, dtype=torch.int32)
        layer.g_idx.copy_(columns // layer.group_size)
    if layer.bias is not None:
        layer.bias.normal_(std=spread)
