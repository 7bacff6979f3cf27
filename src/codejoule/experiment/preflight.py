"""Whether a run's memory is there, before anything is loaded."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from codejoule.config import UserError
from codejoule.config.schema import Preflight
from codejoule.domain import Quantization
from codejoule.experiment.memory_plan import MemoryPlan, place, smaller_batch
from codejoule.experiment.plan import Plan

_log = logging.getLogger(__name__)
_GIB = 2**30
_CGROUP = Path("/sys/fs/cgroup")


def check_memory(plan: Plan) -> None:
    """Compare what the run is predicted to take with what is free on its devices.

    Raises `UserError` with the figures and what would help (``preflight=warn``: logs it). An
    architecture that the estimator does not know is logged, and not checked.
    """
    if plan.memory is None:
        _log.warning(
            "%s: the estimator does not know this architecture, so its memory is not checked",
            plan.experiment.model.name,
        )
        return
    free = free_bytes(plan.device, plan.gpus)
    message = too_little_memory(plan, plan.memory, free)
    if message is None:
        return
    if plan.experiment.preflight is Preflight.fail:
        raise UserError(f"{message}, or try all the same with preflight=warn")
    _log.warning("%s", message)


def free_bytes(device: str, gpus: Sequence[int]) -> tuple[int, ...]:
    """Free memory of each GPU, or of the host within this process' control group."""
    if device == "cuda":
        import torch

        return tuple(int(torch.cuda.mem_get_info(gpu)[0]) for gpu in gpus)
    import psutil

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


def too_little_memory(plan: Plan, memory: MemoryPlan, free: Sequence[int]) -> str | None:
    """What a user must know where a device has too little room; None where all have enough."""
    pairs = list(zip(memory.by_device_bytes, free, strict=True))
    if all(held <= there for held, there in pairs):
        return None
    experiment, work = plan.experiment, memory.workload
    needed = work.needed()
    names = [f"GPU {gpu}" for gpu in plan.gpus] or ["the host's memory"]
    where = "; ".join(
        f"{_gib(held)} on {name}, where {_gib(there)} are free"
        for name, (held, there) in zip(names, pairs, strict=True)
    )
    return (
        f"model={experiment.model.name} with quant={experiment.quant.name} at batch size "
        f"{work.batch} needs about {where} (weights {_gib(needed.weights_bytes)}, KV cache "
        f"{_gib(needed.kv_cache_bytes)} for prompts of up to {work.prompt_tokens} tokens and "
        f"{work.new_tokens} new ones, activations {_gib(needed.activations_bytes)}); "
        + ", or ".join(_remedies(plan, memory, free))
    )


def _remedies(plan: Plan, memory: MemoryPlan, free: Sequence[int]) -> list[str]:
    work = memory.workload
    found = []
    if size := smaller_batch(memory, free):
        found.append(f"use batch.size={size}")
    if not work.quantization.packed:
        for group in (128, 64, 32):
            four_bits = Quantization(method="gptq", bits=4, group_size=group)
            try:
                smaller = place(replace(work, quantization=four_bits), len(free))
            except ValueError:
                continue
            if all(h <= there for h, there in zip(smaller.by_device_bytes, free, strict=True)):
                found.append(f"use quant=gptq4 ({_gib(sum(smaller.by_device_bytes))})")
            break
    visible = len(plan.hardware.gpus)
    if plan.device == "cuda" and len(plan.gpus) < visible:
        found.append(f"spread it over more GPUs (gpus={visible})")
    elif plan.device == "cuda":
        found.append("show it more GPUs (CUDA_VISIBLE_DEVICES)")
    found.append("end what else uses the memory, choose a smaller model or a larger machine")
    return found


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"
