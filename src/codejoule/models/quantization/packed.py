"""Weights packed in groups, through gptqmodel's own modules and choice of kernel."""

import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.common.progress import doing
from codejoule.config import ConfigError, UserError, first_line
from codejoule.config.schema import QuantConfig
from codejoule.models import compat
from codejoule.models.facts import inspect_layers, sampled_layers
from codejoule.models.folder import DECODER, generation_defaults, has_experts, weight_files
from codejoule.models.placement import (
    Placement,
    architecture_config,
    fill,
    initial_deviation,
    materialize,
    model_on_meta,
    seeded,
    spread,
)
from codejoule.models.quantization.base import (
    AUTO,
    DeclaredQuantization,
    Kernel,
    Quantizer,
    StoredLayer,
    Tensors,
    spread_out,
)
from codejoule.models.quantization.packed_config import (
    excepted_layers,
    refuse_unread,
    stated_fields,
)
from codejoule.models.quantization.packed_words import fill_packed, one_in_each_place, unpack

if TYPE_CHECKING:
    import torch
    from gptqmodel.nn_modules.qlinear import BaseQuantLinear
    from transformers import PretrainedConfig, PreTrainedModel

_log = logging.getLogger(__name__)
_DEFAULT_GROUP = 128
_SMALL = 256
"""Inputs and outputs of a layer that every kernel can take."""
_WORDS = 8
"""Words of packed zero points, and so four or eight outputs each, that are looked at."""
_TEXTS_AT_ONCE = 4
_NOTES = {
    "torch_aten": "computes in bfloat16 whatever the model's dtype",
    "torch_int8": "weights rounded again, to int8 with one scale per output channel",
}


class PackedQuantizer(Quantizer):
    """A method whose checkpoints gptqmodel makes, and whose layers it computes."""

    places: tuple[int, ...] = ()
    """Which of its outputs each place of a word holds; empty for their order."""
    zero_offset = 0
    """What a file's zero points lack."""
    recipe = ""
    """Class of gptqmodel's recipe."""
    backend: str | None = None
    """What gptqmodel quantizes with; None for its own choice."""
    exact_on_cpu = False
    """Whether it quantizes in float32 on a CPU."""

    def prepare(self, quant: QuantConfig, *, dtype: "torch.dtype", device: str) -> QuantConfig:
        """Import gptqmodel, and on CUDA compile the kernel."""
        compat.import_gptqmodel()
        if device != "cuda":
            return quant
        return replace(quant, kernel=self.build_kernels(quant, dtype=dtype, device=device))

    def select_kernel(self, quant: QuantConfig, device: str) -> "type[BaseQuantLinear]":
        """The class that gptqmodel has for `quant` on `device`.

        Raises `ConfigError` where the kernel asked for cannot do it, and where ``auto`` has none.
        """
        name = quant.kernel
        if name == AUTO and device == "cpu" and quant.bits == 8:
            # gptqmodel 7.6's own choice compiles for 44 s and then again for each shape.
            name = "torch_int8"
        try:
            return compat.kernel_class(
                self.name,
                backend=AUTO if name == AUTO else f"{self.name}_{name}",
                bits=quant.bits,
                group_size=quant.group_size,
                desc_act=quant.desc_act,
                sym=quant.sym,
                format=self.facts.layouts[0],
                zero_point=None if self.zero_offset else not quant.sym,
                device_map={"": device},
            )
        except (ValueError, NotImplementedError, ImportError) as error:
            raise ConfigError(
                f"quant.kernel={quant.kernel} with quant={quant.name} on {device}: cannot be used "
                f"({first_line(error)}); choose one of {self.choices(device)}"
            ) from error

    def build_kernels(self, quant: QuantConfig, *, dtype: "torch.dtype", device: str) -> str:
        """Compile what `quant` runs on, unless that was done before on this machine; its name.

        gptqmodel compiles a CUDA kernel when its first layer is ready for use, which takes minutes:
        done here, that is no part of loading a model. With ``quant.kernel=auto`` this is the first
        in the library's order that can be used here (Machete needs CUTLASS' sources, for one),
        never the fallback. Raises `UserError` where there is none, and what the one asked for says.
        """
        refused = []
        for kernel in self.accepted_kernels(quant, device):
            try:
                with compat.builds_told(_tell_of_build):
                    one = replace(quant, kernel=kernel.name)
                    self.build_kernel(one, dtype=dtype, device=device)
            except (ConfigError, UserError) as error:
                if quant.kernel != AUTO:
                    raise
                _log.debug("kernel %s: %s", kernel.name, error)
                refused.append(f"{kernel.name}: {error}")
            else:
                return kernel.name
        raise UserError(
            f"quant={quant.name}: none of gptqmodel's kernels can be used on {device} "
            f"({'; '.join(refused)})"
        )

    def build_kernel(self, quant: QuantConfig, *, dtype: "torch.dtype", device: str) -> None:
        """Compile one kernel, with a layer that every kernel can take."""
        import torch

        size = quant.group_size if quant.group_size and quant.group_size > 0 else _DEFAULT_GROUP
        quant = replace(quant, group_size=size)
        blank = torch.nn.Linear(max(size, _SMALL), _SMALL, bias=False, device="meta")
        kernel = self.select_kernel(quant, device)
        layer = _packed_layer(kernel, quant, blank, "layer", dtype=dtype, device=device)
        with torch.no_grad():
            for tensor in layer.state_dict().values():
                tensor.zero_()
        self._finish(torch.nn.ModuleDict({"layer": layer}), quant, f"quant={quant.name}")

    def empty_model(
        self,
        config: "PretrainedConfig",
        quant: QuantConfig,
        *,
        dtype: "torch.dtype",
        place: Placement,
        excepted: Sequence[str] = (),
    ) -> "PreTrainedModel":
        """The model of `config` in its place, its decoder's linear layers packed, its tensors
        blank.

        Layers in whose path an expression of `excepted` is found stay as they are. Experts that
        transformers keeps in one tensor become a linear layer each. Nothing of full size is ever
        allocated.
        """
        import torch

        model = model_on_meta(config, dtype=dtype, apart=has_experts(config.to_dict()))
        kernel = self.select_kernel(quant, place.device)
        for name, module in list(model.named_modules()):
            if not isinstance(module, torch.nn.Linear) or DECODER not in name:
                continue
            if any(re.search(part, name) for part in excepted):
                continue
            packed = _packed_layer(kernel, quant, module, name, dtype=dtype, device=place.of(name))
            model.set_submodule(name, packed)
        materialize(model, place)
        return model

    def _finish(self, model: "torch.nn.Module", quant: QuantConfig, source: str) -> None:
        """Give each kernel its own layout of the weights, once they are all there.

        Raises `UserError` where a kernel cannot be built or cannot run on this machine.
        """
        import torch

        try:
            if self.zero_offset and quant.bits:
                kinds = [type(layer) for _, layer in _packed(model)]
                compat.zero_points_as_they_are(model, quant.bits, kinds[0])
            compat.finish_kernels(model, desc_act=quant.desc_act)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            names = ", ".join(sorted({type(layer).__name__ for _, layer in _packed(model)}))
            raise UserError(
                f"{source}: the kernel {names} cannot be used here ({type(error).__name__}: "
                f"{first_line(error)}); its compiler (nvcc of the CUDA release that PyTorch was "
                "built with) may be missing; install it, or choose another with quant.kernel"
            ) from error

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
        """Each tensor goes from its file to its place, once.

        transformers 5 has another way to the same modules, but it gives quantized experts random
        weights.
        """
        import torch
        from safetensors import safe_open

        assert declared is not None and quant.bits is not None
        model = self.empty_model(
            config, quant, dtype=dtype, place=place, excepted=declared.excepted
        )
        places = model.state_dict()
        left, unexpected, mismatched = set(places), [], []
        # A layout of zero points as they are, where the usual one has them less one.
        lacks = 0 if declared.layout == self.facts.layouts[0] else self.zero_offset
        # Onto several GPUs each tensor goes by way of the CPU.
        through = place.device if place.device_map is None else "cpu"
        for file in weight_files(folder):
            with safe_open(file, framework="pt", device=through) as tensors, torch.no_grad():
                for name in tensors.keys():  # noqa: SIM118 (it is no mapping)
                    if name not in places:
                        unexpected.append(name)
                        continue
                    tensor = tensors.get_tensor(name)
                    if lacks and name.endswith(".qzeros"):
                        tensor = tensor - lacks * one_in_each_place(quant.bits)
                    if tensor.shape == places[name].shape:
                        places[name].copy_(tensor)
                    else:
                        mismatched.append(name)
                    left.discard(name)
        filled = {tensor.data_ptr() for name, tensor in places.items() if name not in left}
        # A tied tensor is in the file under one of its names; one without elements, such as the
        # order of columns that Machete keeps for desc_act, is in none.
        missing = [
            name for name in left if places[name].numel() and places[name].data_ptr() not in filled
        ]
        if not missing and not mismatched:
            self._finish(model, quant, source)
            spread(model, place)
        model.generation_config = generation_defaults(folder) or model.generation_config
        return model, {
            "missing_keys": missing,
            "unexpected_keys": unexpected,
            "mismatched_keys": mismatched,
        }

    def random(
        self,
        architecture: Mapping[str, Any],
        quant: QuantConfig,
        *,
        seed: int,
        dtype: "torch.dtype",
        place: Placement,
    ) -> tuple["PreTrainedModel", Mapping[str, Tensors]]:
        """Packed layers of random bits; no unquantized model is made on the way.

        The bits stand for weights as spread out as an untrained model's, so that its outputs are
        finite.
        """
        import torch

        assert quant.bits is not None
        middle = 2 ** (quant.bits - 1) - self.zero_offset
        config = architecture_config(architecture)
        deviation = initial_deviation(config)
        model = self.empty_model(config, quant, dtype=dtype, place=place)
        layers = dict(_packed(model))
        inside = tuple(f"{name}." for name in layers)
        with seeded(seed, place.device), torch.no_grad():
            for layer in layers.values():
                fill_packed(layer, quant.bits, middle=middle, deviation=deviation)
            for name, parameter in model.named_parameters():
                if not name.startswith(inside):
                    fill(name, parameter, deviation)
        stored = {
            layer.name: {
                part: tensor.to("cpu", copy=True)
                for part, tensor in model.get_submodule(layer.name).state_dict().items()
            }
            for layer in sampled_layers(inspect_layers(model))
        }
        self._finish(model, quant, "random")
        spread(model, place)
        return model, stored

    def inspect(self, module: Any) -> tuple[str, int, int] | None:
        """One of gptqmodel's layers."""
        if not compat.is_packed(module):
            return None
        return type(module).__name__, module.bits, module.group_size

    def stored_layer(
        self, tensors: Tensors, quant: QuantConfig, layout: str | None, *, device: "torch.device"
    ) -> StoredLayer:
        """Outputs of words spread over the layer."""
        import torch

        if "weight" in tensors:
            return super().stored_layer(tensors, quant, layout, device=device)
        assert quant.bits is not None and quant.group_size is not None
        each = 32 // quant.bits
        words = spread_out(tensors["qzeros"].shape[1], _WORDS)
        order = torch.tensor(self.places or range(each))
        outputs = (words[:, None] * each + order).flatten()
        packed_zeros = tensors["qzeros"][:, words].to(device)
        if layout in (None, self.facts.layouts[0]):
            packed_zeros = packed_zeros + self.zero_offset * one_in_each_place(quant.bits)
        zeros = unpack(packed_zeros, quant.bits)
        steps = tensors["scales"][:, outputs].to(device).float()
        if "g_idx" in tensors:
            # Along the inputs: words below one another, and each input's group.
            packed = tensors["qweight"][:, outputs].to(device)
            levels = unpack(packed.T, quant.bits).T
            groups = tensors["g_idx"].to(device).long()
        else:
            levels = unpack(tensors["qweight"][:, words].to(device), quant.bits)
            size = quant.group_size if quant.group_size > 0 else len(levels)
            groups = torch.arange(len(levels), device=device) // size
        return StoredLayer(
            outputs=outputs,
            weight=(levels - zeros[groups]) * steps[groups],
            bias=tensors["bias"][outputs].to(device).float() if "bias" in tensors else None,
            groups=groups,
            steps=steps,
            zeros=zeros,
        )

    def declared(self, fields: Mapping[str, Any]) -> DeclaredQuantization:
        """By gptqmodel's fields and those of the tools before it, as gptqmodel 7.6 takes them."""
        layouts = self.facts.layouts
        usual: dict[str, Any] = {"layout": layouts[0], "group_size": _DEFAULT_GROUP}
        meant = usual | stated_fields(fields)
        if meant["layout"] not in layouts:
            raise ConfigError(
                f"its tensors are in the layout {meant['layout']!r}, which nothing here can read "
                f"for {self.name}; name a checkpoint in one of these: {', '.join(layouts)}"
            )
        refuse_unread(fields)
        return DeclaredQuantization(method=self.name, **meant, excepted=excepted_layers(fields))

    def quantize(
        self, base: Path, quant: QuantConfig, texts: Sequence[str], *, device: str, folder: Path
    ) -> None:
        """By gptqmodel; raises what it raises, in its workers too."""
        # More workers than cores make gptqmodel 7.6 many times slower; fewer than two it refuses.
        workers = max(2, len(os.sched_getaffinity(0)))
        os.environ.setdefault("GPTQMODEL_CPU_WORKERS", str(workers))
        compat.quiet_gptqmodel()
        import torch
        from gptqmodel import BACKEND, GPTQModel, quantization

        failures = compat.worker_failures()
        failures.clear()
        recipe = getattr(quantization, self.recipe)(
            bits=quant.bits,
            group_size=quant.group_size,
            sym=quant.sym,
            # Else the path of a temporary folder ends up in the checkpoint's config.json.
            offload_to_disk=False,
            # Left alone, gptqmodel 7.6 spreads its work over every GPU there is, metered or not.
            compute_device_filter=_first_gpu if device == "cuda" else None,
            **self.recipe_options(quant, device),
        )
        exact = self.exact_on_cpu and device == "cpu"
        model = GPTQModel.load(
            str(base),
            recipe,
            device=device,
            dtype=torch.float32 if exact else torch.float16,
            trust_remote_code=False,
        )
        layers = model.model.config.get_text_config().num_hidden_layers
        compat.tell_layers(model, partial(_tell_layer, quant.name, layers))
        options = {} if self.backend is None else {"backend": BACKEND[self.backend]}
        model.quantize(list(texts), batch_size=_TEXTS_AT_ONCE, **options)
        if failures:
            raise failures[0]
        model.save(str(folder))

    def recipe_options(self, quant: QuantConfig, device: str) -> dict[str, Any]:
        """What the method's recipe has beyond others'."""
        return {}


def packed_kernels(cuda: Mapping[str, str], cpu: Mapping[str, str]) -> tuple[Kernel, ...]:
    """gptqmodel's kernels on each device in its own order: names and classes."""
    return tuple(
        Kernel(
            name=name,
            kind=kind,
            device=device,
            fallback=name == "torch",
            rounds_to_int8=name == "torch_int8",
            note=_NOTES.get(name, ""),
        )
        for device, kinds in (("cuda", cuda), ("cpu", cpu))
        for name, kind in kinds.items()
    )


def _tell_of_build(title: str, folder: Path, expected_s: float | None) -> None:
    time = "minutes" if expected_s is None else f"about {math.ceil(expected_s / 60)} min"
    _log.warning(
        "gptqmodel: %s (%s, once per machine; nothing is measured meanwhile; kept in %s)",
        title,
        time,
        folder,
    )


def _tell_layer(name: str, layers: int, done: int) -> None:
    doing(f"quantizing to {name}", f"{done} of {layers} layers done")


def _first_gpu(devices: "list[torch.device]") -> "list[torch.device]":
    return [device for device in devices if device.index in (None, 0)]


def _packed_layer(
    kernel: "type[BaseQuantLinear]",
    quant: QuantConfig,
    linear: "torch.nn.Linear",
    name: str,
    *,
    dtype: "torch.dtype",
    device: str,
) -> "BaseQuantLinear":
    """A blank layer that takes the place of `linear`."""
    import torch

    # On the CPU the kernels compute in a dtype of their own.
    own = {"dtype": dtype} if device.startswith("cuda") else {}
    try:
        with torch.device(device):
            layer = kernel(
                bits=quant.bits,
                group_size=quant.group_size,
                desc_act=quant.desc_act,
                sym=quant.sym,
                in_features=linear.in_features,
                out_features=linear.out_features,
                bias=linear.bias is not None,
                pack_dtype=torch.int32,
                register_buffers=True,
                name=name,
                **own,
            )
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(
            f"quant={quant.name}: {kernel.__name__} cannot take {name} "
            f"({linear.in_features} x {linear.out_features}: {first_line(error)}); choose another "
            "with quant.kernel, or another quant.group_size"
        ) from error
    made: BaseQuantLinear = layer.to(device).requires_grad_(False)
    return made


def _packed(model: "torch.nn.Module") -> list[tuple[str, Any]]:
    """Path and module of each packed layer."""
    return [(name, module) for name, module in model.named_modules() if compat.is_packed(module)]
