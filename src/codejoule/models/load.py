"""From a checkpoint to a model on its device, proven."""

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.common.imports import importing
from codejoule.config import ConfigError, UserError, first_line, installed_versions
from codejoule.config.schema import ModelConfig, QuantConfig
from codejoule.domain import METHODS, dtype_in_force
from codejoule.models.adapter import run_beside
from codejoule.models.check import check_on_device
from codejoule.models.checkpoint import Checkpoint, stored_modules
from codejoule.models.compat import attention_of, quiet_libraries
from codejoule.models.declared import declared_quantization, with_group_size
from codejoule.models.facts import (
    LoadedModel,
    ModelFacts,
    all_tensors,
    describe_layers,
    inspect_layers,
    n_parameters,
    sampled_layers,
)
from codejoule.models.folder import (
    MANIFEST,
    folder_config,
    missing_experts,
    no_code,
    read_config,
    read_tensors,
)
from codejoule.models.placement import Placement
from codejoule.models.proof import (
    prove_complete,
    prove_kernels,
    prove_no_experts_left,
    prove_placement,
    prove_quantization,
)
from codejoule.models.quantization import quantizer_of
from codejoule.models.quantization.base import DeclaredQuantization
from codejoule.models.tokenizer import load_tokenizer
from codejoule.models.value_proof import prove_values

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_LIBRARIES = (
    "torch",
    "transformers",
    *dict.fromkeys(name for facts in METHODS.values() for name in facts.libraries),
)


def prepare_libraries(model: ModelConfig, quant: QuantConfig, *, device: str) -> QuantConfig:
    """Import what `load_model` needs, and compile its CUDA kernels where that was never done;
    `quant` with the name of the kernel that can be used here in place of ``auto``.

    A window around `load_model` then holds loading alone. Raises what `load_model` raises for a
    kernel that cannot be had.
    """
    import_libraries()
    with importing(), quiet_libraries():
        check_on_device(model, quant, device)
        dtype = _dtype(model, quant, device, "float16")
        return quantizer_of(quant.method.name).prepare(quant, dtype=dtype, device=device)


def import_libraries() -> None:
    """Import what every model is loaded with; this starts no thread."""
    with importing():
        import torch
        import transformers

        assert torch.__version__ and transformers.AutoModelForCausalLM
        assert transformers.AutoTokenizer
        with quiet_libraries():
            # The better half of transformers is imported with the first model and its first text.
            assert transformers.PreTrainedModel and transformers.GenerationMixin


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
    import torch

    check_on_device(model, quant, device)
    if device == "cpu":
        torch.set_num_threads(model.cpu_threads or len(os.sched_getaffinity(0)))
    try:
        with quiet_libraries():
            return _load(checkpoint, model, quant, Placement(device=device, device_map=device_map))
    except torch.OutOfMemoryError as error:
        # PyTorch's words say how much there is and how much of it is free.
        smaller = "a smaller model" if quant.bits == 4 else "quant=gptq4, a smaller model"
        raise UserError(
            f"{checkpoint.source}: the weights do not fit into the memory of {device}: "
            f"{first_line(error)}; end what else uses it, or choose {smaller} or a larger device"
        ) from error


def _load(
    checkpoint: Checkpoint, model: ModelConfig, quant: QuantConfig, place: Placement
) -> LoadedModel:
    import torch

    device, quantizer = place.device, quantizer_of(quant.method.name)
    declared: DeclaredQuantization | None = None
    if checkpoint.path is None:
        quant = with_group_size(quant, model.architecture)
        dtype = _dtype(model, quant, device, str(model.architecture.get("torch_dtype")))
        net, stored = quantizer.random(
            model.architecture, quant, seed=model.random_seed, dtype=dtype, place=place
        )
        info: dict[str, Any] = {}
    else:
        declared = _check_folder(checkpoint, quant)
        quant = with_group_size(quant, read_config(checkpoint.path))
        net, info, dtype = _from_folder(checkpoint, model, quant, declared, place)
    tokenizer = load_tokenizer(checkpoint, model)
    if (adapter := checkpoint.adapter) is not None and not adapter.merged:
        run_beside(net, adapter)
    net.eval()
    zero = _zero_biases(checkpoint, info)
    prove_complete(info, checkpoint.source, zero=zero)
    layers = inspect_layers(net)
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
        n_parameters=n_parameters(net, layers),
        memory_bytes=_memory_bytes(net),
        weights=checkpoint.weights.name,
        source=checkpoint.source,
        checksum=checkpoint.checksum,
        adapter=None if adapter is None else adapter.to_json(),
        stored_as=checkpoint.stored_as,
        stored_modules=stored_modules(checkpoint),
        dtype=str(dtype).removeprefix("torch."),
        device=device,
        device_map=None if place.device_map is None else dict(place.device_map),
        attention=attention_of(net.config),
        context_tokens=getattr(net.config, "max_position_embeddings", None),
        quantization=checkpoint.quantization,
        kernel=kernel,
        bits=quant.bits if quantized else None,
        group_size=quant.group_size if quantized else None,
        calibration_texts=_calibration_texts(checkpoint.path),
        linear_quantized=quantized,
        linear_unquantized=len(layers) - quantized,
        kernels=dict(kernels),
        kernel_notes={k.kind: k.note for k in quantizer.kernels if k.note and k.kind in kernels},
        layers=describe_layers(layers),
        ignored_zero_biases=len(zero),
        cpu_threads=torch.get_num_threads() if device == "cpu" else None,
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
    found = declared.differences(quant) if declared else []
    if METHODS[quant.method.name].packed != (declared is not None):
        found = [f"the checkpoint's quantization is {declared.method if declared else 'none'}"]
    if found:
        raise UserError(
            f"{checkpoint.source}: asked for quant={quant.name}, but {'; '.join(found)}; name a "
            "checkpoint that has what quant says, or change quant"
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

    folder, source = checkpoint.path, checkpoint.source
    assert folder is not None
    try:
        config = folder_config(folder)
        dtype = _dtype(model, quant, place.device, str(config.dtype).removeprefix("torch."))
        if declared is None:
            # transformers 5 puts the experts of a layer together, and names none that it misses.
            prove_complete({"missing_keys": missing_experts(folder, config.to_dict())}, source)
        net, info = quantizer_of(quant.method.name).load(
            folder, config, quant, declared, dtype=dtype, place=place, source=source
        )
    except (torch.OutOfMemoryError, ConfigError, UserError):
        raise
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise UserError(
            f"{source}: cannot be loaded ({type(error).__name__}: {first_line(error)})"
            f"{no_code(folder / 'config.json')}; check the folder's files, or download them again"
        ) from error
    return net, info, dtype


def _dtype(model: ModelConfig, quant: QuantConfig, device: str, own: str) -> "torch.dtype":
    """The dtype to load in; `own` is the name of the one that the weights are kept in."""
    import torch

    name = dtype_in_force(model.dtype.name, quant.method.name, device=device, own=own)
    dtype = getattr(torch, name, None)
    return dtype if isinstance(dtype, torch.dtype) else torch.bfloat16


def _zero_biases(checkpoint: Checkpoint, info: dict[str, Any]) -> list[str]:
    """Unexpected tensors that are biases of zero.

    Quantizers of 2024 wrote a bias for every layer, Qwen2.5's own GPTQ checkpoints among
    them; those of zero change nothing.
    """
    unexpected = info.get("unexpected_keys", ())
    layers = [name.removesuffix(".bias") for name in unexpected if name.endswith(".bias")]
    if not layers or checkpoint.path is None:
        return []
    biases = read_tensors(checkpoint.path, layers, parts=("bias",))
    return sorted(
        f"{layer}.bias"
        for layer, found in biases.items()
        if "bias" in found and not found["bias"].any()
    )


def _calibration_texts(folder: Path | None) -> int | None:
    if folder is None or not (folder / MANIFEST).exists():
        return None
    count = json.loads((folder / MANIFEST).read_text(encoding="utf-8")).get("calibration_texts")
    return None if count is None else int(count)


def _memory_bytes(model: "torch.nn.Module") -> int:
    tensors = {tensor.data_ptr(): tensor for tensor in all_tensors(model) if tensor.numel()}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
