"""What this machine has to measure energy with; torch is not needed for it."""

import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from codejoule.config import UserError
from codejoule.measurement.cpu import RaplStatus, rapl_status


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
    """Whether it is divided into slices (MIG), whose energy no counter gives."""


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

    gpus, hidden, problem = detect_gpus()
    return Hardware(
        gpus=gpus,
        hidden_gpus=hidden,
        gpu_problem=problem,
        rapl=rapl_status(),
        cpu_model=_cpu_model(),
        cpu_cores=psutil.cpu_count(logical=False),
        cpu_threads=len(os.sched_getaffinity(0)),
    )


def detect_gpus() -> tuple[tuple[Gpu, ...], tuple[Gpu, ...], str | None]:
    """Visible cards (in CUDA's order), hidden cards, and why there are no visible ones."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return (), (), f"NVML cannot be used: {error} (NVIDIA GPUs alone are metered)"
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

    handle, counts, mig = pynvml.nvmlDeviceGetHandleByIndex(index), True, False
    try:
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        counts = False
    with suppress(pynvml.NVMLError):  # of a card that cannot be divided into slices
        mig = pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE
    return Gpu(
        index=index,
        name=pynvml.nvmlDeviceGetName(handle),
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
        driver=pynvml.nvmlSystemGetDriverVersion(),
        energy_counter=counts,
        mig=mig,
    )


def _cpu_model() -> str | None:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or None


def visible_gpus(setting: str | None, uuids: Sequence[str]) -> tuple[int, ...]:
    """NVML index of each GPU that CUDA shows, in CUDA's order, by ``CUDA_VISIBLE_DEVICES``.
    `setting` is the value of CUDA_VISIBLE_DEVICES (None: unset), `uuids` the UUID of each GPU by
    NVML index. Like CUDA, an entry may be an index or the beginning of a UUID, and the list ends at
    the first entry that names no GPU. Raises UserError for MIG slices, for a UUID that fits several
    GPUs and for a GPU named twice."""
    if setting is None:
        return tuple(range(len(uuids)))
    chosen: list[int] = []
    for entry in (part.strip() for part in setting.split(",")):
        if entry.startswith("MIG"):
            raise UserError(
                f"CUDA_VISIBLE_DEVICES={setting}: {entry} is a MIG slice, and NVML counts "
                "energy per card, never per slice; use a whole GPU, or meter=cpu_estimate (a "
                "labelled estimate of the CPU alone)"
            )
        index = _index(entry, setting, uuids)
        if index is None:
            break
        if index in chosen:
            raise UserError(
                f"CUDA_VISIBLE_DEVICES={setting}: names GPU {index} twice, and CUDA then "
                "shows no GPU at all; name each once"
            )
        chosen.append(index)
    return tuple(chosen)


def showing(hardware: Hardware, gpus: Sequence[int]) -> Mapping[str, str]:
    """Variables with which a process that has not used CUDA yet sees these of `hardware.gpus` and
    no others, as its ``cuda:0``, ``cuda:1`` and so on. Each is named as CUDA_VISIBLE_DEVICES names
    it here, else by its number in ``nvidia-smi``: Zeus and vLLM take no UUID there."""
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    if setting is None:
        names = [str(gpu.index) for gpu in hardware.gpus]
    else:
        names = [part.strip() for part in setting.split(",")]
    chosen = ",".join(names[number] for number in gpus)
    # CUDA's own order puts the fastest first.
    return {"CUDA_VISIBLE_DEVICES": chosen, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def _index(entry: str, setting: str, uuids: Sequence[str]) -> int | None:
    if not entry.startswith("GPU-"):
        return int(entry) if entry.isdecimal() and int(entry) < len(uuids) else None
    matches = [index for index, uuid in enumerate(uuids) if uuid.startswith(entry)]
    if len(matches) > 1:
        raise UserError(
            f"CUDA_VISIBLE_DEVICES={setting}: {entry} fits GPUs "
            f"{' and '.join(map(str, matches))}; write more of the UUID (nvidia-smi -L)"
        )
    return matches[0] if matches else None
