"""What this machine is, as far as energy is concerned; no torch needed."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codejoule.config import UserError
from codejoule.measurement.amd import amd_problem
from codejoule.measurement.nvml import mig_is_on
from codejoule.measurement.rapl import RaplStatus, rapl_status
from codejoule.measurement.visible import visible_gpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One card, as NVML sees it."""

    index: int
    """NVML's number, which need not be CUDA's."""
    name: str
    """The model, e.g. ``NVIDIA H200``."""
    uuid: str
    """Its identity, e.g. ``GPU-8932f937-...``."""
    memory_bytes: int
    """Memory of the card [bytes]."""
    driver: str
    """Version of the driver."""
    energy_counter: bool
    """Whether NVML counts its energy."""
    mig: bool
    """Whether it is divided into slices, whose energy nobody counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The machine."""

    gpus: tuple[Gpu, ...]
    """The NVIDIA cards that CUDA shows this process: ``gpus[0]`` is ``cuda:0``."""
    hidden_gpus: tuple[Gpu, ...]
    """Cards of this machine that ``CUDA_VISIBLE_DEVICES`` hides."""
    gpu_problem: str | None
    """Why there is no card to use; None if there is one."""
    rapl: RaplStatus
    """The CPU's energy counters."""
    cpu_model: str | None
    """Name of the processor; None where the system does not say."""
    cpu_cores: int | None
    """Physical cores of the machine; None where the system does not say."""
    cpu_threads: int
    """Hardware threads that this process may use."""


def detect_hardware() -> Hardware:
    """Look at this machine: GPUs, RAPL, processor. Never raises for what is missing."""
    import psutil

    gpus, hidden, problem = _gpus()
    return Hardware(
        gpus=gpus,
        hidden_gpus=hidden,
        gpu_problem=problem,
        rapl=rapl_status(),
        cpu_model=_cpu_model(),
        cpu_cores=psutil.cpu_count(logical=False),
        cpu_threads=len(os.sched_getaffinity(0)),
    )


def _gpus() -> tuple[tuple[Gpu, ...], tuple[Gpu, ...], str | None]:
    """Visible cards, hidden cards, and why there are no visible ones."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return (), (), amd_problem() or f"NVML cannot be used: {error}"
    try:
        gpus = tuple(_gpu(index) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError as error:
        return (), (), f"NVML cannot list the GPUs: {error}"
    finally:
        pynvml.nvmlShutdown()
    if not gpus:
        return (), (), "NVML lists no GPU"
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        visible = visible_gpus(setting, [gpu.uuid for gpu in gpus])
    except UserError as error:
        return (), gpus, str(error)
    problem = None if visible else f"CUDA_VISIBLE_DEVICES={setting!r} hides all {len(gpus)} GPUs"
    hidden = tuple(gpu for gpu in gpus if gpu.index not in visible)
    return tuple(gpus[index] for index in visible), hidden, problem


def _gpu(index: int) -> Gpu:
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    return Gpu(
        index=index,
        name=pynvml.nvmlDeviceGetName(handle),
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
        driver=pynvml.nvmlSystemGetDriverVersion(),
        energy_counter=_has_energy_counter(handle),
        mig=mig_is_on(handle),
    )


def _has_energy_counter(handle: Any) -> bool:
    import pynvml

    try:
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return False
    return True


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or None
