"""From a checkpoint to a model on its device, proven."""

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.config import ConfigError, UserError, importing, installed_versions
from codejoule.config.schema import Method, ModelConfig, QuantConfig
from codejoule.models.check import check_dtype
from codejoule.models.checkpoint import MANIFEST, Checkpoint
from codejoule.models.declared import (
    declared_quantization,
    missing_experts,
    read_config,
    weight_files,
)
from codejoule.models.dtype import dtype_in_force
from codejoule.models.facts import LoadedModel, ModelFacts
from codejoule.models.folder_config import folder_config, no_code
from codejoule.models.group_size import with_group_size
from codejoule.models.kernels import check_kernel
from codejoule.models.packed import build_kernels
from codejoule.models.packed_checkpoint import load_packed_model
from codejoule.models.placement import Placement
from codejoule.models.proof import (
    all_tensors,
    count_parameters,
    describe_layers,
    linear_layers,
    prove_complete,
    prove_kernels,
    prove_no_experts_left,
    prove_placement,
    prove_quantization,
)
from codejoule.models.quantization_fields import DeclaredQuantization
from codejoule.models.quiet import quiet_libraries
from codejoule.models.random_weights import (
    architecture_config,
    random_model,
    random_packed_model,
)
from codejoule.models.stored_layer import read_tensors
from codejoule.models.tokenizer import load_tokenizer
from codejoule.models.value_proof import prove_values, sampled_layers
from codejoule.models.while_loading import loading_options

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_LIBRARIES = ("torch", "transformers", "gptqmodel", "bitsandbytes", "torchao")
_SET_BY_GPTQMODEL = ("PYTORCH_ALLOC_CONF", "CUDA_DEVICE_ORDER")
_KERNEL_NOTES = {
    "TorchAtenLinear": "computes in bfloat16 whatever the model's dtype",
    "TorchAtenAwqLinear": "computes in bfloat16 whatever the model's dtype",
    "TorchInt8Linear": "weights rounded again, to int8 with one scale per output channel",
    "TorchInt8AwqLinear": "weights rounded again, to int8 with one scale per output channel",
    "Linear8bitLt": "LLM.int8(): inputs rounded to int8 too, outliers computed apart",
}


def prepare_libraries(model: ModelConfig, quant: QuantConfig, *, device: str) -> QuantConfig:
    """Import what `load_model` needs, and compile its CUDA kernels where that was never done;
    `quant` with the name of the kernel that can be used here in place of ``auto``.

    A window around `load_model` then holds loading alone. Raises what `load_model` raises for a
    kernel that cannot be had.
    """
    with importing():
        return _prepare_libraries(model, quant, device=device)


def _prepare_libraries(model: ModelConfig, quant: QuantConfig, *, device: str) -> QuantConfig:
    import torch
    import transformers

    assert torch.__version__ and transformers.AutoModelForCausalLM and transformers.AutoTokenizer
    with quiet_libraries():
        # The better half of transformers is imported with the first model.
        assert transformers.PreTrainedModel
        if quant.method in (Method.gptq, Method.awq):
            _import_gptqmodel()
            if device == "cuda":
                check_dtype(model, quant, device)
                check_kernel(quant, device)
                dtype = _dtype(model, quant, device, "float16")
                quant = replace(quant, kernel=build_kernels(quant, dtype=dtype, device=device))
        elif quant.method is not Method.none:
            loading_options(quant, torch.float16)
    return quant


def _import_gptqmodel() -> None:
    """Import it, and undo the settings of PyTorch's allocator and CUDA's order of GPUs that
    gptqmodel 7.6 then makes: an unquantized baseline would run without them."""
    before = {name: os.environ.get(name) for name in _SET_BY_GPTQMODEL}
    import gptqmodel

    assert gptqmodel.__name__
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)


def torch_out_of_memory() -> type[RuntimeError]:
    """The error of an allocation that a GPU has no room for."""
    import torch

    kind: type[RuntimeError] = torch.OutOfMemoryError
    return kind


def load_model(
    checkpoint: Checkpoint,
    model: ModelConfig,
    quant: QuantConfig,
    *,
    device: str,
    device_map: Mapping[str, int] | None = None,
) -> LoadedModel:
    """Load what `locate_checkpoint` found onto `device` (``cpu`` or ``cuda``), and prove it.

    With a `device_map` (GPU of each part by its path) the model lies on several GPUs.

    Sets the CPU's thread count. Every linear layer is inspected for kernel, bits, group size
    and the memory it takes, every tensor for where it came from, its dtype and device; raises
    `UserError` that names the first offenders where anything is not as asked, or where the
    device's memory does not suffice, and `ConfigError` for a dtype or a kernel that cannot be.
    """
    check_dtype(model, quant, device)
    check_kernel(quant, device)
    if device == "cpu":
        _set_threads(model.cpu_threads)
    try:
        with quiet_libraries():
            return _load(checkpoint, model, quant, Placement(device=device, device_map=device_map))
    except torch_out_of_memory() as error:
        raise _too_small(error, checkpoint, quant, device) from error


def _load(
    checkpoint: Checkpoint, model: ModelConfig, quant: QuantConfig, place: Placement
) -> LoadedModel:
    device = place.device
    declared: DeclaredQuantization | None = None
    if checkpoint.path is None:
        quant = with_group_size(quant, model.architecture)
        net, dtype, stored = _random(model, quant, place)
        info: dict[str, Any] = {}
    else:
        declared = _check_folder(checkpoint, quant)
        quant = with_group_size(quant, read_config(checkpoint.path))
        net, info, dtype = _from_folder(checkpoint, model, quant, declared, place)
    tokenizer = load_tokenizer(checkpoint, model)
    net.eval()
    zero = _zero_biases(checkpoint, info)
    prove_complete(info, checkpoint.source, zero=zero)
    layers = linear_layers(net)
    excepted = declared.excepted if declared else ()
    prove_quantization(layers, quant, checkpoint.source, excepted=excepted)
    prove_no_experts_left(net, layers, quant, checkpoint.source)
    kernel = prove_kernels(layers, quant, device=device, source=checkpoint.source)
    prove_placement(net, dtype=dtype, place=place, source=checkpoint.source)
    kernels = Counter(layer.kernel for layer in layers)
    quantized = sum(1 for layer in layers if layer.bits is not None)
    sampled = sampled_layers(layers)
    if checkpoint.path is not None:
        stored = read_tensors(checkpoint.path, [layer.name for layer in sampled])
    facts = ModelFacts(
        architecture=type(net).__name__,
        n_parameters=count_parameters(net, layers),
        memory_bytes=_memory_bytes(net),
        weights=checkpoint.weights.name,
        source=checkpoint.source,
        checksum=checkpoint.checksum,
        dtype=str(dtype).removeprefix("torch."),
        device=device,
        device_map=None if place.device_map is None else dict(place.device_map),
        attention=str(net.config._attn_implementation),
        context_tokens=getattr(net.config, "max_position_embeddings", None),
        quantization=checkpoint.quantization,
        kernel=kernel,
        bits=quant.bits if quantized else None,
        group_size=quant.group_size if quantized else None,
        calibration_texts=_calibration_texts(checkpoint.path),
        linear_quantized=quantized,
        linear_unquantized=len(layers) - quantized,
        kernels=dict(kernels),
        kernel_notes={k: note for k, note in _KERNEL_NOTES.items() if k in kernels},
        layers=describe_layers(layers),
        ignored_zero_biases=len(zero),
        cpu_threads=_threads() if device == "cpu" else None,
        versions=installed_versions(_LIBRARIES),
        # Last: a kernel may change its tensors when it first computes.
        values=prove_values(
            net,
            [layer for layer in sampled if stored[layer.name]],
            stored,
            quant,
            declared.layout if declared else None,
            dtype=dtype,
            source=checkpoint.source,
        ),
    )
    return LoadedModel(model=net, tokenizer=tokenizer, facts=facts)


def _random(
    model: ModelConfig, quant: QuantConfig, place: Placement
) -> tuple["PreTrainedModel", "torch.dtype", dict[str, dict[str, "torch.Tensor"]]]:
    """The model, its dtype, and some layers' tensors as a checkpoint would store them."""
    dtype = _dtype(model, quant, place.device, str(model.architecture.get("torch_dtype")))
    seed = model.random_seed
    if quant.method in (Method.gptq, Method.awq):
        net, stored = random_packed_model(
            model.architecture, quant, seed=seed, dtype=dtype, place=place
        )
        return net, dtype, stored
    net = random_model(model.architecture, seed=seed, dtype=dtype, place=place)
    if quant.method is Method.none:
        return net, dtype, {}
    options = loading_options(quant, dtype)
    weights = net.state_dict()
    config = architecture_config(model.architecture)
    made: PreTrainedModel = type(net).from_pretrained(
        None,
        config=config,
        state_dict=weights,
        dtype=dtype,
        device_map=place.for_transformers,
        trust_remote_code=False,
        **options,
    )
    names = [layer.name for layer in sampled_layers(linear_layers(made))]
    stored = {name: dict(net.get_submodule(name).state_dict()) for name in names}
    return made, dtype, stored


def _check_folder(checkpoint: Checkpoint, quant: QuantConfig) -> DeclaredQuantization | None:
    """What the folder declares; refuses one that is not there yet, or quantized otherwise than
    `quant` says."""
    folder = checkpoint.path
    assert folder is not None
    if checkpoint.base_path is not None and not (folder / MANIFEST).exists():
        raise UserError(
            f"{folder}: not quantized yet; quantize_checkpoint makes it from {checkpoint.base_path}"
        )
    declared = declared_quantization(read_config(folder))
    packed = quant.method in (Method.gptq, Method.awq)
    if packed != (declared is not None):
        there = declared.method if declared else "none"
        raise UserError(
            f"{checkpoint.source}: asked for quant={quant.name}, but the checkpoint's "
            f"quantization is {there}; name a checkpoint that has what quant says, or "
            "change quant"
        )
    if declared and (changed := declared.differences(quant)):
        raise UserError(
            f"{checkpoint.source}: not what quant={quant.name} asks for ({'; '.join(changed)}); "
            "name a checkpoint that has it, or change quant"
        )
    return declared


def _from_folder(
    checkpoint: Checkpoint,
    model: ModelConfig,
    quant: QuantConfig,
    declared: DeclaredQuantization | None,
    place: Placement,
) -> tuple["PreTrainedModel", dict[str, Any], "torch.dtype"]:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    folder, source = checkpoint.path, checkpoint.source
    assert folder is not None
    try:
        config = folder_config(folder)
        dtype = _dtype(model, quant, place.device, str(config.dtype).removeprefix("torch."))
        if declared is not None:
            net, info = load_packed_model(
                folder, config, quant, declared, dtype=dtype, place=place, source=source
            )
            return net, info, dtype
        # transformers 5 puts the experts of a layer together, and names none that it misses.
        prove_complete({"missing_keys": missing_experts(folder, config.to_dict())}, source)
        net, info = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            device_map=place.for_transformers,
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
            # Those are what was checked and hashed; others hold pickled Python.
            use_safetensors=True,
            **loading_options(quant, dtype),
        )
    except (torch.OutOfMemoryError, ConfigError, UserError):
        raise
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{source}: cannot be loaded ({type(error).__name__}: {text})"
            f"{no_code(folder / 'config.json')}; check the folder's files, or download them again"
        ) from error
    return net, info, dtype


def _too_small(
    error: BaseException, checkpoint: Checkpoint, quant: QuantConfig, device: str
) -> UserError:
    """Out of memory in the user's words."""
    import torch

    room = ""
    if device == "cuda" and torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        room = f" ({free / 2**30:.1f} of {total / 2**30:.1f} GiB free)"
    smaller = "a smaller model" if quant.bits == 4 else "quant=gptq4, a smaller model"
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(
        f"{checkpoint.source}: the weights do not fit into the memory of {device}{room}: {text}; "
        f"end what else uses it, or choose {smaller} or a larger device"
    )


def _dtype(model: ModelConfig, quant: QuantConfig, device: str, own: str) -> "torch.dtype":
    """The dtype to load in; `own` is the name of the one that the weights are kept in."""
    import torch

    dtype = getattr(torch, dtype_in_force(model, quant, device=device, own=own), None)
    return dtype if isinstance(dtype, torch.dtype) else torch.bfloat16


def _zero_biases(checkpoint: Checkpoint, info: dict[str, Any]) -> list[str]:
    """Unexpected tensors that are biases of zero.

    Quantizers of 2024 wrote a bias for every layer, Qwen2.5's own GPTQ checkpoints among
    them; those of zero change nothing.
    """
    names = {name for name in info.get("unexpected_keys", ()) if name.endswith(".bias")}
    if not names or checkpoint.path is None:
        return []
    from safetensors import safe_open

    found: list[str] = []
    for file in weight_files(checkpoint.path):
        with safe_open(file, framework="pt") as tensors:
            found += [
                name
                for name in names.intersection(tensors.keys())
                if not tensors.get_tensor(name).any()
            ]
    return sorted(found)


def _calibration_texts(folder: Path | None) -> int | None:
    if folder is None or not (folder / MANIFEST).exists():
        return None
    count = json.loads((folder / MANIFEST).read_text(encoding="utf-8")).get("calibration_texts")
    return None if count is None else int(count)


def _memory_bytes(model: "torch.nn.Module") -> int:
    tensors = {tensor.data_ptr(): tensor for tensor in all_tensors(model) if tensor.numel()}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _set_threads(threads: int | None) -> None:
    import torch

    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))


def _threads() -> int:
    import torch

    return int(torch.get_num_threads())
