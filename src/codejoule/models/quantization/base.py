"""The kernels that multiply by packed weights: their names, and which of them a run accepts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from codejoule.config import ConfigError
from codejoule.config.schema import QUANTIZED_WHILE_LOADING, Method, QuantConfig

if TYPE_CHECKING:
    from gptqmodel.nn_modules.qlinear import BaseQuantLinear

AUTO = "auto"
FALLBACK = "torch"
"""gptqmodel's reference kernel, which unpacks all weights at every step: it runs everywhere, and
costs more than no quantization at all."""

_CLASSES: Mapping[Method, Mapping[str, Mapping[str, str]]] = {
    # gptqmodel 7.6, each device's kernels in the order in which the library prefers them.
    Method.gptq: {
        "cuda": {
            "swordfish": "SwordfishLinear",
            "machete": "MacheteLinear",
            "marlin": "MarlinLinear",
            "exllama_v2": "ExllamaV2Linear",
            "triton": "TritonV2Linear",
            "torch": "TorchLinear",
        },
        "cpu": {
            "torch_aten": "TorchAtenLinear",
            "torch_fused": "TorchFusedLinear",
            "torch_int8": "TorchInt8Linear",
            "torch": "TorchLinear",
        },
    },
    Method.awq: {
        "cuda": {
            "swordfish": "AwqSwordfishLinear",
            "machete": "AwqMacheteLinear",
            "marlin": "AwqMarlinLinear",
            "exllama_v2": "AwqExllamaV2Linear",
            "gemm": "AwqGEMMLinear",
            "gemm_triton": "AwqGEMMTritonLinear",
            "torch": "AwqTorchLinear",
        },
        "cpu": {
            "torch_aten": "TorchAtenAwqLinear",
            "torch_fused": "TorchFusedAwqLinear",
            "torch_int8": "TorchInt8AwqLinear",
            "torch": "AwqTorchLinear",
        },
    },
}
_WHILE_LOADING: Mapping[tuple[Method, int], tuple[str, str]] = {
    (Method.bnb, 4): ("bnb_4bit", "Linear4bit"),
    (Method.bnb, 8): ("bnb_int8", "Linear8bitLt"),
    (Method.torchao, 8): ("torchao_int8", "Int8Tensor"),
}


def check_kernel(quant: QuantConfig, device: str | None) -> None:
    """Refuse a ``quant.kernel`` that the method has not on `device` (None: on any); no torch.

    Raises `ConfigError` with the choices.
    """
    if quant.kernel == AUTO:
        return
    if quant.method not in _CLASSES:
        raise ConfigError(
            f"quant.kernel={quant.kernel} with quant={quant.name}: choose auto, the only kernel "
            "there is"
        )
    on = _CLASSES[quant.method]
    devices = list(on) if device is None else [device]
    if not any(quant.kernel in on[place] for place in devices):
        choices = "; ".join(f"on {place}: {', '.join((AUTO, *on[place]))}" for place in devices)
        raise ConfigError(
            f"quant.kernel={quant.kernel}: no such kernel for quant={quant.name}; choose one of "
            f"these: {choices}"
        )


def accepted_kernels(quant: QuantConfig, device: str) -> dict[str, str]:
    """Class of each kernel that may run what `quant` says on `device`, and the kernel's name.

    With ``quant.kernel=auto`` all that the library may choose, save `FALLBACK`.
    """
    if quant.method in QUANTIZED_WHILE_LOADING:
        assert quant.bits is not None
        name, kind = _WHILE_LOADING[quant.method, quant.bits]
        return {kind: name}
    found = _CLASSES[quant.method][device]
    if quant.kernel == AUTO:
        return {kind: name for name, kind in found.items() if name != FALLBACK}
    return {found[quant.kernel]: quant.kernel}


def kernels_to_try(quant: QuantConfig, device: str) -> list[str]:
    """Names of the kernels that `quant` accepts on `device`, the one preferred first."""
    return list(accepted_kernels(quant, device).values())


def stored_bits(quant: QuantConfig, kernel: str) -> int:
    """Bits per weight that the kernel of this class keeps in memory."""
    assert quant.bits is not None
    return 8 if kernel in ("TorchInt8Linear", "TorchInt8AwqLinear") else quant.bits


def select_kernel(quant: QuantConfig, layout: str, device: str) -> "type[BaseQuantLinear]":
    """The class that gptqmodel has for `quant`, its checkpoints' `layout` and `device`.

    Raises `ConfigError` where the kernel asked for cannot do it, and where ``auto`` has none.
    """
    from gptqmodel.quantization import METHOD
    from gptqmodel.utils.importer import hf_select_quant_linear_v2

    name = quant.kernel
    if name == AUTO and device == "cpu" and quant.bits == 8:
        # gptqmodel 7.6's own choice compiles for 44 s and then again for each shape.
        name = "torch_int8"
    method = quant.method.name
    try:
        chosen: type[BaseQuantLinear] = hf_select_quant_linear_v2(
            bits=quant.bits,
            group_size=quant.group_size,
            desc_act=quant.desc_act,
            sym=quant.sym,
            format=layout,
            quant_method=METHOD(method),
            zero_point=not quant.sym if quant.method is Method.awq else None,
            pack=False,
            device_map={"": device},
            backend=AUTO if name == AUTO else f"{method}_{name}",
        )
    except (ValueError, NotImplementedError, ImportError) as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"quant.kernel={quant.kernel} with quant={quant.name} on {device}: cannot be used "
            f"({text}); choose one of {', '.join((AUTO, *_CLASSES[quant.method][device]))}"
        ) from error
    return chosen
