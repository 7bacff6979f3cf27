"""Models of packed linear layers, through gptqmodel's own modules and choice of kernel."""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from codejoule.config import ConfigError, UserError
from codejoule.config.schema import Method, QuantConfig
from codejoule.models.declared import has_experts
from codejoule.models.kernels import AUTO, kernels_to_try, select_kernel
from codejoule.models.placement import Placement

if TYPE_CHECKING:
    import torch
    from gptqmodel.nn_modules.qlinear import BaseQuantLinear
    from transformers import PretrainedConfig, PreTrainedModel

_log = logging.getLogger(__name__)
_DECODER = ".layers."
_LAYOUTS = {Method.gptq: "gptq", Method.awq: "gemm"}
_DEFAULT_GROUP = 128
_SMALL = 256
"""Inputs and outputs of a layer that every kernel can take."""


def empty_packed_model(
    config: "PretrainedConfig",
    quant: QuantConfig,
    *,
    dtype: "torch.dtype",
    place: Placement,
    excepted: Sequence[str] = (),
) -> "PreTrainedModel":
    """The model of `config` in its place, its decoder's linear layers packed, its tensors blank.

    Layers in whose path an expression of `excepted` is found stay as they are. Experts that
    transformers keeps in one tensor become a linear layer each. Nothing of full size is ever
    allocated.
    """
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    # Buffers, such as the frequencies of rotary embeddings, come from no checkpoint: they are real.
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
        if has_experts(config.to_dict()):
            import defuser

            defuser.convert_model(model, cleanup_original=True)
    kernel = select_kernel(quant, _LAYOUTS[quant.method], place.device)
    for name, module in list(model.named_modules()):
        if not isinstance(module, torch.nn.Linear) or _DECODER not in name:
            continue
        if any(re.search(part, name) for part in excepted):
            continue
        packed = _packed_layer(
            kernel,
            quant,
            in_features=module.in_features,
            out_features=module.out_features,
            bias=module.bias is not None,
            name=name,
            dtype=dtype,
            device=place.of(name),
        )
        model.set_submodule(name, packed)
    materialize(model, place)
    return model


def build_kernels(quant: QuantConfig, *, dtype: "torch.dtype", device: str) -> str:
    """Compile what `quant` runs on, unless that has been done before on this machine; its name.

    gptqmodel compiles a CUDA kernel when its first layer is ready for use, which takes minutes:
    done here, that is no part of loading a model. With ``quant.kernel=auto`` this is the first
    in the library's order that can be used here (Machete needs CUTLASS' sources, for one), never
    the fallback. Raises `UserError` where there is none, and what the one asked for says.
    """
    refused = []
    for name in kernels_to_try(quant, device):
        try:
            _build_kernel(replace(quant, kernel=name), dtype=dtype, device=device)
        except (ConfigError, UserError) as error:
            if quant.kernel != AUTO:
                raise
            _log.debug("kernel %s: %s", name, error)
            refused.append(f"{name}: {error}")
        else:
            return name
    raise UserError(
        f"quant={quant.name}: none of gptqmodel's kernels can be used on {device} "
        f"({'; '.join(refused)})"
    )


def _build_kernel(quant: QuantConfig, *, dtype: "torch.dtype", device: str) -> None:
    import torch

    size = quant.group_size if quant.group_size and quant.group_size > 0 else _DEFAULT_GROUP
    quant = replace(quant, group_size=size)
    layer = _packed_layer(
        select_kernel(quant, _LAYOUTS[quant.method], device),
        quant,
        in_features=max(size, _SMALL),
        out_features=_SMALL,
        bias=False,
        name="layer",
        dtype=dtype,
        device=device,
    )
    with torch.no_grad():
        for tensor in layer.state_dict().values():
            tensor.zero_()
    finish_packed_model(torch.nn.ModuleDict({"layer": layer}), quant, f"quant={quant.name}")


def _packed_layer(
    kernel: "type[BaseQuantLinear]",
    quant: QuantConfig,
    *,
    in_features: int,
    out_features: int,
    bias: bool,
    name: str,
    dtype: "torch.dtype",
    device: str,
) -> "BaseQuantLinear":
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
                in_features=in_features,
                out_features=out_features,
                bias=bias,
                pack_dtype=torch.int32,
                register_buffers=True,
                name=name,
                **own,
            )
    except (ValueError, NotImplementedError) as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"quant={quant.name}: {kernel.__name__} cannot take {name} ({in_features} x "
            f"{out_features}: {text}); choose another with quant.kernel, or another "
            "quant.group_size"
        ) from error
    made: BaseQuantLinear = layer.to(device).requires_grad_(False)
    return made


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


def finish_packed_model(model: "torch.nn.Module", quant: QuantConfig, source: str) -> None:
    """Give each kernel its own layout of the weights, once they are all there.

    Raises `UserError` where a kernel cannot be built or cannot run on this machine.
    """
    import torch
    from gptqmodel.utils.model import hf_convert_gptq_v1_to_v2_format, hf_gptqmodel_post_init

    try:
        if quant.method is Method.gptq:
            kinds = {type(layer) for _, layer in packed_layers(model)}
            hf_convert_gptq_v1_to_v2_format(model, quant.bits, kinds.pop(), "gptq", None)
        hf_gptqmodel_post_init(model, use_act_order=quant.desc_act)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        names = ", ".join(sorted({type(layer).__name__ for _, layer in packed_layers(model)}))
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{source}: the kernel {names} cannot be used here ({type(error).__name__}: {text}); "
            "its compiler (nvcc of the CUDA release that PyTorch was built with) may be missing; "
            "install it, or choose another with quant.kernel"
        ) from error


def packed_layers(model: "torch.nn.Module") -> list[tuple[str, Any]]:
    """Path and module of each packed layer."""
    from gptqmodel.nn_modules.qlinear import BaseQuantLinear

    modules = model.named_modules()
    return [(name, module) for name, module in modules if isinstance(module, BaseQuantLinear)]
