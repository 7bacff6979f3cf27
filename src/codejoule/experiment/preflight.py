"""Whether a run's memory is there, before anything is loaded."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from codejoule.config import UserError
from codejoule.config.schema import ExperimentConfig, Preflight, Weights
from codejoule.domain import Quantization, Suite
from codejoule.estimate import memory_needed
from codejoule.experiment.memory_plan import MemoryPlan, place, plan_memory, smaller_batch
from codejoule.measurement import Hardware

_log = logging.getLogger(__name__)
_GIB = 2**30
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The devices of a run."""

    device: str
    """``cpu`` or ``cuda``."""
    visible: int
    """GPUs that could be used."""
    bytes: tuple[int, ...]
    """Memory of each device that is used."""
    state: str = "free"
    """What is said of that memory: ``free``, or ``there``."""


def check_memory(
    experiment: ExperimentConfig, memory: MemoryPlan | None, *, device: str, visible: int
) -> None:
    """Compare what a run is predicted to take with what is free on its devices. Raises `UserError`
    with the figures and what would help (``preflight=warn``: logs it). An architecture that the
    estimator does not know is logged, and not checked. On GPUs this makes a CUDA context: call it
    in the process that will hold the model."""
    if memory is None:
        _log.warning(
            "%s: the estimator does not know this architecture, so its memory is not checked",
            experiment.model.name,
        )
        return
    free = free_bytes(device, range(len(memory.by_device_bytes)))
    _refuse(experiment, memory, Room(device=device, visible=visible, bytes=free))


def check_memory_before_download(
    experiment: ExperimentConfig, suite: Suite, hardware: Hardware, *, device: str
) -> None:
    """The same for weights of the hub, from the architecture on file: what these devices could
    not hold if all of their memory were free is not worth a download."""
    if experiment.model.weights is not Weights.hub or not experiment.model.architecture:
        return
    memory = plan_memory(experiment, suite, None, hardware, device=device)
    if memory is None:
        return
    whole = tuple(gpu.memory_bytes for gpu in hardware.gpus)[: len(memory.by_device_bytes)]
    visible = len(hardware.gpus)
    if device == "cuda":
        room = Room(device=device, visible=visible, bytes=whole, state="there")
    else:
        room = Room(device=device, visible=visible, bytes=free_bytes(device, ()))
    _refuse(experiment, memory, room)


def _refuse(experiment: ExperimentConfig, memory: MemoryPlan, room: Room) -> None:
    message = _too_little(experiment, memory, room)
    if message is None:
        return
    if experiment.preflight is Preflight.fail:
        raise UserError(f"{message}, or try all the same with preflight=warn")
    _log.warning("%s", message)


def free_bytes(device: str, gpus: Sequence[int]) -> tuple[int, ...]:
    """Free memory of each GPU, or of the host within this process' control group."""
    if device == "cuda":
        import torch

        return tuple(int(torch.cuda.mem_get_info(gpu)[0]) for gpu in gpus)
    return (min(int(psutil.virtual_memory().available), *_left_in_control_groups()),)


def _left_in_control_groups(
    root: Path = _CGROUP, listing: Path = Path("/proc/self/cgroup")
) -> list[int]:
    """What each enclosing control group (version 2) with a limit leaves."""
    try:
        lines = listing.read_text(encoding="ascii").splitlines()
    except OSError:
        return [2**63]
    own = next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), None)
    left = [2**63]
    if own is None:
        return left
    group = root / own
    for folder in [group, *group.parents]:
        try:
            limit = (folder / "memory.max").read_text(encoding="ascii").strip()
            used = (folder / "memory.current").read_text(encoding="ascii").strip()
        except OSError:
            continue
        if limit != "max":
            left.append(max(0, int(limit) - int(used)))
    return left


def _too_little(experiment: ExperimentConfig, memory: MemoryPlan, room: Room) -> str | None:
    """What a user must know where a device has too little room; None where all have enough."""
    pairs = list(zip(memory.by_device_bytes, room.bytes, strict=True))
    if all(held <= there for held, there in pairs):
        return None
    work = memory.workload
    needed = memory_needed(work)
    on_gpus = room.device == "cuda"
    where = "; ".join(
        f"{_gib(held)} on {f'GPU {number}' if on_gpus else 'the host'}, where {_gib(there)} are "
        f"{room.state}"
        for number, (held, there) in enumerate(pairs)
    )
    return (
        f"model={experiment.model.name} with quant={experiment.quant.name} at batch size "
        f"{work.batch} needs about {where} (weights {_gib(needed.weights_bytes)}, KV cache "
        f"{_gib(needed.kv_cache_bytes)} for prompts of up to {work.prompt_tokens} tokens and "
        f"{work.new_tokens} new ones, activations {_gib(needed.activations_bytes)}); "
        + ", or ".join(_remedies(memory, room))
    )


def _remedies(memory: MemoryPlan, room: Room) -> list[str]:
    work, used = memory.workload, len(room.bytes)
    found = []
    if size := smaller_batch(memory, room.bytes):
        found.append(f"use batch.size={size}")
    if not work.quantization.packed:
        for group in (128, 64, 32):
            four_bits = Quantization(method="gptq", bits=4, group_size=group)
            try:
                smaller = place(replace(work, quantization=four_bits), used)
            except ValueError:
                continue
            pairs = zip(smaller.by_device_bytes, room.bytes, strict=True)
            if all(held <= there for held, there in pairs):
                found.append(f"use quant=gptq4 ({_gib(sum(smaller.by_device_bytes))})")
            break
    if room.device == "cuda":
        more = f"spread it over more GPUs (gpus={room.visible})"
        none = "show it more GPUs (CUDA_VISIBLE_DEVICES)"
        found.append(more if used < room.visible else none)
    found.append("end what else uses the memory, choose a smaller model or a larger machine")
    return found


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"
