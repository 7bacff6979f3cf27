"""What a quantization method does; here, what one does that quantizes nothing or while loading."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.config import ConfigError, UserError
from codejoule.config.extras import how_to_install
from codejoule.config.schema import QuantConfig
from codejoule.domain import METHODS, QuantizationMethod
from codejoule.models.placement import Placement, architecture_config, random_model

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

AUTO = "auto"
_LOOKED_AT = 64
"""Outputs of an unquantized layer that are looked at."""

Tensors = Mapping[str, "torch.Tensor"]
"""The tensors of a layer by the names that its file has for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """What multiplies by quantized weights."""

    name: str
    """As ``quant.kernel`` has it."""
    kind: str
    """Class of the module, or of its weight where that decides."""
    device: str | None = None
    """``cpu`` or ``cuda``; None for a method's only kernel, which runs on either."""
    bits: int | None = None
    """Bits per weight that it is for; None for all that the method has."""
    fallback: bool = False
    """Whether it unpacks all weights at every step: it runs everywhere, and costs more than no
    quantization at all."""
    rounds_to_int8: bool = False
    """Whether it rounds weights to int8, whatever the checkpoint has, with one scale per output."""
    tolerance: float = 0.05
    """Relative error of outputs: kernels that work in bfloat16 reach 0.005, a wrong order 1.4."""
    note: str = ""
    """What it does to numbers beyond its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLayer:
    """Some outputs of one layer, dequantized by the checkpoint's own words alone."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredQuantization:
    """What a ``quantization_config`` says; None for what it leaves open.

    Of methods that are not read here only the name is known.
    """

    method: str
    """As the checkpoint writes it, in lower case."""
    bits: int | None = None
    group_size: int | None = None
    sym: bool | None = None
    desc_act: bool | None = None
    layout: str | None = None
    """How tensors are packed, one of the method's layouts."""
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


class Quantizer:
    """A method; what differs in another one is overridden there.

    What is asked for comes as a `QuantConfig` whose group size is the one in force.
    """

    kernels: tuple[Kernel, ...] = ()
    """In the order in which its library prefers them."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def facts(self) -> QuantizationMethod:
        """What is known of it without its libraries."""
        return METHODS[self.name]

    def check_kernel(self, quant: QuantConfig, device: str | None) -> None:
        """Refuse a ``quant.kernel`` that it has not on `device` (None: on any); `ConfigError`
        with the choices."""
        if quant.kernel == AUTO:
            return
        there = [kernel for kernel in self.kernels if kernel.device is not None]
        if not there:
            raise ConfigError(
                f"quant.kernel={quant.kernel} with quant={quant.name}: choose auto, the only "
                "kernel there is"
            )
        places = [device] if device else list(dict.fromkeys(str(kernel.device) for kernel in there))
        if not any(k.name == quant.kernel and k.device in places for k in there):
            choices = "; ".join(f"on {place}: {self.choices(place)}" for place in places)
            raise ConfigError(
                f"quant.kernel={quant.kernel}: no such kernel for quant={quant.name}; choose one "
                f"of these: {choices}"
            )

    def choices(self, device: str) -> str:
        """What ``quant.kernel`` may be on `device`."""
        return ", ".join([AUTO, *(k.name for k in self.kernels if k.device == device)])

    def accepted_kernels(self, quant: QuantConfig, device: str) -> list[Kernel]:
        """The kernels that may run what `quant` says on `device`, the one preferred first.

        With ``quant.kernel=auto`` all that the library may choose, save its fallback.
        """
        return [
            kernel
            for kernel in self.kernels
            if kernel.device in (None, device)
            and kernel.bits in (None, quant.bits)
            and (not kernel.fallback if quant.kernel == AUTO else kernel.name == quant.kernel)
        ]

    def prepare(self, quant: QuantConfig, *, dtype: "torch.dtype", device: str) -> QuantConfig:
        """Import and compile what loading needs; `quant` with the kernel that can be used."""
        del device
        self.loading_options(quant, dtype)
        return quant

    def loading_options(self, quant: QuantConfig, dtype: "torch.dtype") -> dict[str, Any]:
        """What ``from_pretrained`` must be told besides; `UserError` where the library that
        quantizes is missing."""
        try:
            return self._loading_options(quant, dtype)
        except ImportError as error:
            package = self.facts.libraries[0]
            raise UserError(
                f"quant={quant.name}: {package} cannot be imported ({error}); install it "
                f"({how_to_install(package)}), or choose another quant"
            ) from error

    def _loading_options(self, quant: QuantConfig, dtype: "torch.dtype") -> dict[str, Any]:
        return {}

    def load(
        self,
        folder: Path,
        config: "PretrainedConfig",
        quant: QuantConfig,
        declared: DeclaredQuantization | None,
        *,
        dtype: "torch.dtype",
        place: Placement,
        source: str,
    ) -> tuple["PreTrainedModel", dict[str, Any]]:
        """The model in `folder` in its place, and what was missing, left over or of another
        shape, as ``from_pretrained(output_loading_info=True)`` has it."""
        from transformers import AutoModelForCausalLM

        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            device_map=place.for_transformers,
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
            # Those are what was checked and hashed; others hold pickled Python.
            use_safetensors=True,
            **self.loading_options(quant, dtype),
        )
        return model, info

    def random(
        self,
        architecture: Mapping[str, Any],
        quant: QuantConfig,
        *,
        seed: int,
        dtype: "torch.dtype",
        place: Placement,
    ) -> tuple["PreTrainedModel", Mapping[str, Tensors]]:
        """The model that `architecture` (a config.json) describes with random weights, and the
        tensors of quantized layers, some at least, as a checkpoint would store them."""
        model = random_model(architecture, seed=seed, dtype=dtype, place=place)
        options = self.loading_options(quant, dtype)
        if not options:
            return model, {}
        stored = {
            name: dict(module.state_dict())
            for name, module in model.named_modules()
            if hasattr(module, "in_features")
        }
        made: PreTrainedModel = type(model).from_pretrained(
            None,
            config=architecture_config(architecture),
            state_dict=model.state_dict(),
            dtype=dtype,
            device_map=place.for_transformers,
            trust_remote_code=False,
            **options,
        )
        return made, stored

    def inspect(self, module: Any) -> tuple[str, int, int] | None:
        """Kernel's class, bits and group size of a module that is a linear layer of this method's;
        None for any other."""
        return None

    def stored_layer(
        self, tensors: Tensors, quant: QuantConfig, layout: str | None, *, device: "torch.device"
    ) -> StoredLayer:
        """Outputs spread over the layer, from the `tensors` of its file."""
        outputs = spread_out(tensors["weight"].shape[0], _LOOKED_AT)
        return StoredLayer(
            outputs=outputs,
            weight=tensors["weight"][outputs].to(device).T.float(),
            bias=tensors["bias"][outputs].to(device).float() if "bias" in tensors else None,
        )

    def check_stored(self, stored: StoredLayer, quant: QuantConfig, where: str, name: str) -> None:
        """Refuse what kernels would take for something else; `UserError` that names the layer."""

    def declaration(self, quant: QuantConfig, architecture: Mapping[str, Any]) -> dict[str, Any]:
        """The ``quantization_config`` of a checkpoint of this `architecture` (a config.json) in its
        usual layout; empty for a method whose checkpoints are unquantized."""
        return {}

    def declared(self, fields: Mapping[str, Any]) -> DeclaredQuantization | None:
        """What a ``quantization_config`` with a name of this method means; None for another method
        of that name. Raises `ConfigError` for what is not understood."""
        return DeclaredQuantization(method=self.name)

    def quantize(
        self, base: Path, quant: QuantConfig, texts: Sequence[str], *, device: str, folder: Path
    ) -> None:
        """Write the checkpoint that `quant` makes of the one in `base` to `folder`."""
        raise AssertionError(f"{self.name} has no checkpoints of its own")


def spread_out(size: int, most: int) -> "torch.Tensor":
    """So many numbers below `size`, or all of them, from the first to the last."""
    import torch

    return torch.linspace(0, size - 1, min(size, most)).round().long()
