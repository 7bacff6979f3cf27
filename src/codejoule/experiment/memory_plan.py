"""What a run will need of its devices' memory, and on how many GPUs its model must lie."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from codejoule.config import ConfigError, UserError
from codejoule.config.schema import ExperimentConfig, Split, Weights
from codejoule.domain import Suite, Workload
from codejoule.estimate import CONTEXT_BYTES, bytes_by_layer, memory_needed, place_layers
from codejoule.measurement import Hardware
from codejoule.models import Checkpoint, describe_model

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
    most = min(len(memory_bytes), workload.architecture.layers)
    for devices in range(1, most + 1):
        plan = place(workload, devices)
        pairs = zip(plan.by_device_bytes, memory_bytes, strict=False)
        if all(held + CONTEXT_BYTES <= there for held, there in pairs):
            return plan
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

    Without a `checkpoint`, from the architecture on file.

    By the GPUs' memory, not by what is free of it, so that the same run is planned alike again.
    Raises `UserError` where ``gpus`` asks for what cannot be had.
    """
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
    requests = len(suite.tasks) * experiment.generation.n_samples
    architecture, quantization, dtype = describe_model(
        checkpoint, experiment.model, experiment.quant, device=device
    )
    return Workload(
        architecture=architecture,
        quantization=quantization,
        dtype=dtype,
        batch=min(experiment.batch.size, requests),
        prompt_tokens=_prompt_tokens(experiment, suite),
        new_tokens=experiment.generation.max_new_tokens or suite.max_new_tokens,
    )


def _prompt_tokens(experiment: ExperimentConfig, suite: Suite) -> int:
    instruct = experiment.suite.split is Split.instruct
    prompts = [t.instruct_prompt if instruct else t.complete_prompt for t in suite.tasks]
    longest = max(len(prompt.encode()) for prompt in prompts)
    per_token = 1 if experiment.model.weights is Weights.random else _BYTES_PER_TOKEN
    return math.ceil((longest + _TEMPLATE_BYTES) / per_token)


def smaller_batch(plan: MemoryPlan, free_bytes: Sequence[int]) -> int:
    """Most sequences, fewer than planned, with which every device has room; 0 for none."""
    fits = 0
    size = plan.workload.batch // 2
    while size:
        smaller = place(replace(plan.workload, batch=size), len(plan.by_device_bytes))
        if all(h <= free for h, free in zip(smaller.by_device_bytes, free_bytes, strict=True)):
            fits = size
            break
        size //= 2
    return fits
