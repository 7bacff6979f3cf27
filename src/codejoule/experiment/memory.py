"""What a run will need of its devices' memory, on how many GPUs its model must lie, and whether
there is room for it, before anything is loaded."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from codejoule.config import ConfigError, UserError
from codejoule.config.schema import ExperimentConfig, Preflight, Split, Weights
from codejoule.domain import Quantization, Suite, Workload
from codejoule.estimate import CONTEXT_BYTES, bytes_by_layer, memory_needed, place_layers
from codejoule.measurement import Hardware
from codejoule.models import Checkpoint, describe_model
from codejoule.sandbox.host_memory import HostMemory
from codejoule.suites import MOST_OUTPUT

_log = logging.getLogger(__name__)

_BYTES_PER_TOKEN = 3
"""Of a prompt; code has 3 to 4 with the tokenizers of these models. The byte tokenizer has 1."""
_TEMPLATE_BYTES = 256
"""Of a chat template, a system prompt included, and the prompt's own frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """A workload on devices."""

    workload: Workload
    """What is to be decoded."""
    layers: tuple[int, ...]
    """Device of each layer, from 0."""
    by_device_bytes: tuple[int, ...]
    """What each device must hold."""

    @property
    def device_map(self) -> Mapping[str, int] | None:
        """GPU of each part by its path in the model; None where one holds everything."""
        if len(self.by_device_bytes) == 1:
            return None
        last = len(self.by_device_bytes) - 1
        family, tied = self.workload.architecture.family, self.workload.architecture.tied
        return {
            family.embedding: 0,
            family.rotary: 0,
            **{f"{family.blocks}.{number}": gpu for number, gpu in enumerate(self.layers)},
            family.norm: last,
            # A tied head is the embedding, and lies with it.
            family.head: 0 if tied else last,
        }

    def fits(self, room_bytes: Sequence[int]) -> bool:
        """Whether every device has room for its part."""
        pairs = zip(self.by_device_bytes, room_bytes, strict=False)
        return all(held <= there for held, there in pairs)


def place(workload: Workload, devices: int) -> MemoryPlan:
    """Spread a workload over this many devices of one kind; `ValueError` for too many."""
    needed = memory_needed(workload)
    if devices == 1:
        return MemoryPlan(
            workload=workload,
            layers=(0,) * workload.architecture.layers,
            by_device_bytes=(needed.allocated_bytes,),
        )
    embedding_bytes, weights_bytes, head_bytes = bytes_by_layer(
        workload.architecture, workload.quantization, dtype=workload.dtype
    )
    cache_bytes = math.ceil(needed.kv_cache_bytes / workload.architecture.layers)
    layers_bytes = [weights + cache_bytes for weights in weights_bytes]
    layers = place_layers(
        layers_bytes, first_bytes=embedding_bytes, last_bytes=head_bytes, gpus=devices
    )
    held = [needed.activations_bytes] * devices
    held[0] += embedding_bytes
    held[-1] += head_bytes
    for device, size in zip(layers, layers_bytes, strict=True):
        held[device] += size
    return MemoryPlan(workload=workload, layers=layers, by_device_bytes=tuple(held))


def place_on_fewest(workload: Workload, memory_bytes: Sequence[int]) -> MemoryPlan:
    """The first so many of the GPUs with these memories that hold a workload, or all of them."""
    room_bytes = [there - CONTEXT_BYTES for there in memory_bytes]
    for devices in range(1, min(len(memory_bytes), workload.architecture.layers) + 1):
        plan = place(workload, devices)
        if plan.fits(room_bytes):
            break
    return plan


def plan_memory(
    experiment: ExperimentConfig,
    suite: Suite,
    checkpoint: Checkpoint | None,
    hardware: Hardware,
    *,
    device: str,
) -> MemoryPlan | None:
    """Predict a run's memory and choose its GPUs; None for an architecture that is not known.
    Without a `checkpoint`, from the architecture on file. By the GPUs' memory, not by what is free
    of it, so that the same run is planned alike again. Raises `UserError` where ``gpus`` asks for
    what cannot be had."""
    visible = len(hardware.gpus)
    if device == "cuda" and experiment.gpus is not None and experiment.gpus > visible:
        raise UserError(
            f"gpus={experiment.gpus}: {visible} visible on this machine; ask for fewer, or show "
            "more with CUDA_VISIBLE_DEVICES"
        )
    try:
        workload = _workload(experiment, suite, checkpoint, device=device)
        if device == "cpu":
            return place(workload, 1)
        if experiment.gpus is not None:
            return place(workload, experiment.gpus)
        return place_on_fewest(workload, [gpu.memory_bytes for gpu in hardware.gpus])
    except ConfigError:
        raise
    except ValueError as error:
        if experiment.gpus is None or experiment.gpus == 1:
            return None
        raise UserError(
            f"gpus={experiment.gpus} with model={experiment.model.name}: {error}; use gpus=1"
        ) from error


def _workload(
    experiment: ExperimentConfig, suite: Suite, checkpoint: Checkpoint | None, *, device: str
) -> Workload:
    architecture, quantization, dtype = describe_model(
        checkpoint, experiment.model, experiment.quant, device=device
    )
    instruct = experiment.suite.split is Split.instruct
    prompts = [t.instruct_prompt if instruct else t.complete_prompt for t in suite.tasks]
    longest = max(len(prompt.encode()) for prompt in prompts)
    rounds = experiment.generation.rounds > 1
    new_tokens = experiment.generation.max_new_tokens or suite.max_new_tokens
    if rounds:
        # The program that is repaired, which begins with the prompt where a model continues that,
        # and what the tests said.
        longest = 2 * longest + MOST_OUTPUT
    per_token = 1 if experiment.model.weights is Weights.random else _BYTES_PER_TOKEN
    return Workload(
        architecture=architecture,
        quantization=quantization,
        dtype=dtype,
        batch=min(experiment.batch.size, len(suite.tasks) * experiment.generation.n_samples),
        prompt_tokens=math.ceil((longest + _TEMPLATE_BYTES) / per_token) + rounds * new_tokens,
        new_tokens=new_tokens,
        kv_dtype=experiment.engine.cache_dtype,
    )


def check_memory_before_download(
    experiment: ExperimentConfig, suite: Suite, hardware: Hardware, *, device: str
) -> None:
    """`check_memory` for weights of the hub, from the architecture on file: what these devices
    could not hold if all of their memory were free is not worth a download."""
    if experiment.model.weights is not Weights.hub or not experiment.model.architecture:
        return
    memory = plan_memory(experiment, suite, None, hardware, device=device)
    if memory is not None:
        check_memory(experiment, memory, hardware, device=device, if_all_were_free=True)


def check_memory(
    experiment: ExperimentConfig,
    memory: MemoryPlan | None,
    hardware: Hardware,
    *,
    device: str,
    if_all_were_free: bool = False,
) -> None:
    """Compare what a run is predicted to take with what is free on its devices. Raises `UserError`
    with the figures and what would help (``preflight=warn``: logs it). An architecture that the
    estimator does not know is logged, and not checked. On GPUs this makes a CUDA context, unless
    `if_all_were_free`: call it in the process that will hold the model."""
    if memory is None:
        _log.warning(
            "%s: the estimator does not know this architecture, so its memory is not checked",
            experiment.model.name,
        )
        return
    used, state, on_gpus = len(memory.by_device_bytes), "free", device == "cuda"
    if on_gpus and if_all_were_free:
        room_bytes = tuple(gpu.memory_bytes for gpu in hardware.gpus[:used])
        state = "there"
    else:
        room_bytes = free_bytes(device, range(used))
    if memory.fits(room_bytes):
        return
    where = "; ".join(
        f"{_gib(held)} on {f'GPU {number}' if on_gpus else 'the host'}, where {_gib(there)} are "
        f"{state}"
        for number, (held, there) in enumerate(zip(memory.by_device_bytes, room_bytes, strict=True))
    )
    remedies = _remedies(memory, room_bytes)
    if on_gpus:
        # A job's process sees its own; the others of this machine are hidden from it.
        there = len(hardware.gpus) + len(hardware.hidden_gpus)
        if used < there:
            remedies.append(f"spread it over more GPUs (gpus={there}, CUDA_VISIBLE_DEVICES)")
    remedies.append("end what else uses the memory, choose a smaller model or a larger machine")
    work, needed = memory.workload, memory_needed(memory.workload)
    message = (
        f"model={experiment.model.name} with quant={experiment.quant.name} at batch size "
        f"{work.batch} needs about {where} (weights {_gib(needed.weights_bytes)}, KV cache "
        f"{_gib(needed.kv_cache_bytes)} for prompts of up to {work.prompt_tokens} tokens and "
        f"{work.new_tokens} new ones, activations {_gib(needed.activations_bytes)}); "
        + ", or ".join(remedies)
    )
    if experiment.preflight is Preflight.fail:
        raise UserError(f"{message}, or try all the same with preflight=warn")
    _log.warning("%s", message)


def free_bytes(device: str, gpus: Sequence[int]) -> tuple[int, ...]:
    """Free memory of each GPU, or of the host within this process' control group."""
    if device == "cuda":
        import torch

        return tuple(int(torch.cuda.mem_get_info(gpu)[0]) for gpu in gpus)
    return (max(0, HostMemory().available_bytes()),)


def _remedies(memory: MemoryPlan, room_bytes: Sequence[int]) -> list[str]:
    """A smaller batch and smaller weights, where they would have room."""
    work, devices, found = memory.workload, len(memory.by_device_bytes), []
    sizes = [work.batch >> halvings for halvings in range(1, work.batch.bit_length())]
    for size in sizes:
        if place(replace(work, batch=size), devices).fits(room_bytes):
            found.append(f"use batch.size={size}")
            break
    for group in () if work.quantization.packed else (128, 64, 32):
        four_bits = Quantization(method="gptq", bits=4, group_size=group)
        try:
            smaller = place(replace(work, quantization=four_bits), devices)
        except ValueError:
            continue
        if smaller.fits(room_bytes):
            found.append(f"use quant=gptq4 ({_gib(sum(smaller.by_device_bytes))})")
        break
    return found


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
