"""Models made where they will run: the places of their parts, and blank or random weights."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.config import write_whole
from codejoule.models.compat import kept_on_device

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

_DEVIATION = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One device for everything, or a GPU for each part."""

    device: str
    """``cpu`` or ``cuda``."""
    device_map: Mapping[str, int] | None = None
    """GPU of each part by its path in the model, as transformers takes it; None for one device."""

    def of(self, name: str) -> str:
        """Device of the module or tensor of this path, such as ``cuda:1``."""
        if self.device_map is None:
            return self.device
        for part, gpu in self.device_map.items():
            if name == part or name.startswith(f"{part}."):
                return f"{self.device}:{gpu}"
        return f"{self.device}:0"

    @property
    def for_transformers(self) -> dict[str, Any]:
        """The ``device_map`` of ``from_pretrained``."""
        return {"": self.device} if self.device_map is None else dict(self.device_map)


def spread(model: Any, placement: Placement) -> None:
    """Let activations follow from GPU to GPU, where the parts of `model` lie on several."""
    if placement.device_map is not None:
        from accelerate import dispatch_model

        dispatch_model(
            model,
            device_map=dict(placement.device_map),
            # The cache's layers stay where they grew.
            skip_keys=kept_on_device(model),
        )


def materialize(model: "PreTrainedModel", place: Placement) -> None:
    """Give every tensor its place: those of the meta device blank, the others as they are."""
    import torch

    for path, module in model.named_modules():
        for name, tensor in module.named_parameters(recurse=False):
            where = place.of(f"{path}.{name}")
            if tensor.is_meta:
                real = torch.empty_like(tensor, device=where)
                setattr(module, name, torch.nn.Parameter(real, requires_grad=False))
            else:
                tensor.data = tensor.data.to(where)
        for name, tensor in module.named_buffers(recurse=False):
            where = place.of(f"{path}.{name}")
            blank = torch.empty_like(tensor, device=where) if tensor.is_meta else tensor.to(where)
            setattr(module, name, blank)
    model.tie_weights()


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
        with seeded(seed, place.device), torch.device(place.device):
            made: PreTrainedModel = AutoModelForCausalLM.from_config(
                config, dtype=dtype, trust_remote_code=False
            )
        return made
    made = model_on_meta(config, dtype=dtype)
    materialize(made, place)
    with seeded(seed, place.device), torch.no_grad():
        for name, parameter in made.named_parameters():
            fill(name, parameter, initial_deviation(config))
    spread(made, place)
    return made


def model_on_meta(
    config: "PretrainedConfig", *, dtype: "torch.dtype", apart: bool = False
) -> "PreTrainedModel":
    """The model of `config` without memory for its parameters; `apart` makes a linear layer of
    each expert, which transformers keeps in one tensor."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    # Buffers, such as the frequencies of rotary embeddings, come from no checkpoint: they are real.
    with init_empty_weights(include_buffers=False):
        made: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=dtype, trust_remote_code=False
        )
        if apart:
            import defuser

            defuser.convert_model(made, cleanup_original=True)
    return made


def architecture_config(architecture: Mapping[str, Any]) -> "PretrainedConfig":
    """transformers' own form of `architecture`."""
    from transformers import AutoConfig

    fields = dict(architecture)
    return AutoConfig.for_model(fields.pop("model_type"), **fields)


def write_config(
    architecture: Mapping[str, Any], quantization: Mapping[str, Any], folder: Path
) -> None:
    """Write the ``config.json`` that a checkpoint of this architecture has, for an engine that
    makes random weights by itself; `quantization` is its ``quantization_config``, or empty."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = architecture["model_type"]
    config = {"architectures": [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind]], **architecture}
    if quantization:
        config["quantization_config"] = dict(quantization)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "config.json", json.dumps(config, indent=1))


def initial_deviation(config: "PretrainedConfig") -> float:
    """Standard deviation of an untrained model's weights."""
    return float(getattr(config, "initializer_range", None) or _DEVIATION)


@contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Draw from this seed, while inside."""
    import torch

    gpus = range(torch.cuda.device_count()) if device == "cuda" else ()
    with torch.random.fork_rng(devices=list(gpus)):
        torch.manual_seed(seed)
        yield


def fill(name: str, parameter: "torch.Tensor", deviation: float) -> None:
    """Give an unquantized parameter what an untrained model has."""
    if parameter.ndim > 1:
        parameter.normal_(std=deviation)
    elif name.endswith(".bias"):
        parameter.zero_()
    else:
        parameter.fill_(1)
