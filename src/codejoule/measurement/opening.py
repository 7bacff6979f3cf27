"""Choose the energy source of a run."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from codejoule.config import UserError
from codejoule.config.schema import MeterConfig, MeterName, MeterScope, OnBusyGpu
from codejoule.domain import EnergySource
from codejoule.measurement.counter import Counter
from codejoule.measurement.cpu import (
    MAX_SAMPLE_PERIOD_S,
    CpuCounters,
    command_time_counter,
    cpu_time_counter,
    rapl_counter,
    rapl_status,
)
from codejoule.measurement.feed import BUNDLED_RECORDING, LiveFeed, ReplayFeed
from codejoule.measurement.hardware import Hardware, detect_hardware
from codejoule.measurement.jobs import OtherJobs
from codejoule.measurement.ledger import Ledger
from codejoule.measurement.meter import Meter
from codejoule.measurement.nvml import nvml_counter, require_counter

logger = logging.getLogger(__name__)

POWER_PERIOD_S = 0.02
"""Longest pause between looks at instantaneous power, which changes every 0.1 s [s]."""


def open_meter(
    config: MeterConfig, *, gpu_indices: Sequence[int] = (), processes: Sequence[int] = ()
) -> Meter:
    """Meter for a run on the GPUs that PyTorch calls `gpu_indices`, or on the CPU if empty.

    `processes` are those of a server that works for the run: not foreign on a GPU, and their
    CPU time counts in an estimate. ``auto`` takes NVML with a ledger of its ticks for a run on
    GPUs, else RAPL where it can be read, else the estimate; ``zeus`` takes a counter or raises
    UserError. A run on GPUs whose counter cannot be used raises UserError rather than fall back to
    a figure that leaves the GPU out. Beside GPUs the CPU's counters are read where they can be;
    with ``meter.scope=gpu+cpu`` they are part of the figure, and must be readable.
    """
    if config.name is MeterName.replay:
        feed = ReplayFeed(Path(config.recording or BUNDLED_RECORDING))
        ledger = Ledger(feed)
        counter = Counter(ledger.devices, source=EnergySource.replay)
        return _meter(config, counter, ledger, recorded_idle_w=feed.idle_power_w)
    if gpu_indices and config.name is not MeterName.cpu_estimate:
        nvml = nvml_counter(gpu_indices)
        cpu = _cpu_counters(config)
        return _meter(config, nvml, _live_ledger(config, nvml.uuids, processes), cpu=cpu)
    if config.scope is MeterScope["gpu+cpu"]:
        raise UserError(
            "meter.scope=gpu+cpu: the run uses no GPU; choose meter.scope=auto, or device=cuda"
        )
    if config.cooldown_s > 0:
        raise UserError(
            f"meter.cooldown_s={config.cooldown_s:g}: the run uses no GPU whose temperature and "
            "power could be watched; use 0, or device=cuda"
        )
    if gpu_indices:
        logger.warning(
            "meter=cpu_estimate on a run that uses GPUs %s: their energy is not in the figures",
            list(gpu_indices),
        )
    if config.name is MeterName.zeus and not (rapl := rapl_status()).readable:
        raise UserError(
            "meter=zeus: no energy counter for this run. Looked for NVML (the run uses no GPU) "
            f"and RAPL ({rapl.problem}). To get one: {rapl.fix}; or run on a GPU with "
            "device=cuda. Without a counter choose meter=cpu_estimate, which is a labelled "
            "estimate"
        )
    return open_cpu_meter(config, processes=processes)


def open_cpu_meter(config: MeterConfig, *, processes: Sequence[int] = ()) -> Meter:
    """Meter of the CPU, for work beside the model such as judging samples: RAPL where it can
    be read, else (and for ``cpu_estimate``) the estimate from CPU time."""
    if energy_sources(config, gpu=False)[1] is EnergySource.rapl:
        return _meter(config, rapl_counter())
    return _meter(config, cpu_time_counter(config.cpu_watts_per_core, processes=processes))


def open_command_meter(config: MeterConfig) -> Meter:
    """Meter for a command of the user's, which this process starts and which need not use PyTorch:
    all visible GPUs, else RAPL, else (and for ``cpu_estimate``) the estimate from the command's CPU
    time. ``replay`` plays a recording."""
    if config.name is MeterName.replay:
        return open_meter(config)
    estimate = command_time_counter(config.cpu_watts_per_core)
    if config.name is MeterName.cpu_estimate:
        return _meter(config, estimate)
    hardware = detect_hardware()
    for gpu in hardware.gpus:
        require_counter(gpu)
    if hardware.gpus:
        uuids = {f"gpu:{number}": gpu.uuid for number, gpu in enumerate(hardware.gpus)}
        counter = Counter(tuple(uuids), source=EnergySource.nvml)
        return _meter(config, counter, _live_ledger(config, uuids), cpu=_cpu_counters(config))
    if hardware.rapl.readable:
        return _meter(config, rapl_counter())
    return _meter(config, estimate)


def _live_ledger(
    config: MeterConfig, uuids: Mapping[str, str], processes: Sequence[int] = ()
) -> Ledger:
    period_s = min(config.sample_period_s, POWER_PERIOD_S)
    feed = LiveFeed(uuids, period_s=period_s, processes=processes)
    return Ledger(feed, warn_of_foreign=config.on_busy_gpu is OnBusyGpu.warn)


def _cpu_counters(config: MeterConfig) -> CpuCounters | None:
    """The CPU's counters for a meter of GPUs; None where they cannot be read and need not be."""
    in_scope = config.scope is MeterScope["gpu+cpu"]
    status = rapl_status()
    if status.readable:
        return CpuCounters(rapl_counter(), in_scope=in_scope)
    if in_scope:
        raise UserError(
            f"meter.scope=gpu+cpu: the CPU has no readable energy counter ({status.problem}). To "
            f"get one: {status.fix}; or choose meter.scope=auto, which leaves the CPU out"
        )
    return None


def _meter(
    config: MeterConfig,
    counter: Counter,
    ledger: Ledger | None = None,
    *,
    cpu: CpuCounters | None = None,
    recorded_idle_w: float | None = None,
) -> Meter:
    return Meter(
        counter,
        sample_period_s=min(config.sample_period_s, MAX_SAMPLE_PERIOD_S),
        idle_s=config.idle_s,
        idle_tolerance=config.idle_tolerance,
        ledger=ledger,
        cpu=cpu,
        others=OtherJobs(),
        recorded_idle_w=recorded_idle_w,
        cooldown_s=config.cooldown_s,
        cooldown_temperature_c=config.cooldown_temperature_c,
    )


def energy_sources(config: MeterConfig, *, gpu: bool) -> tuple[EnergySource, EnergySource]:
    """Sources of the energy of generation and of evaluation on this machine, by the rules of
    `open_meter` and `open_cpu_meter`; a source that cannot be had is their error, not ours."""
    estimated = config.name is MeterName.cpu_estimate or not rapl_status().readable
    cpu = EnergySource.estimate if estimated else EnergySource.rapl
    if config.name is MeterName.replay:
        return EnergySource.replay, cpu
    if gpu and config.name is not MeterName.cpu_estimate:
        return EnergySource.nvml, cpu
    return cpu, cpu


def metered_devices(
    config: MeterConfig, hardware: Hardware, gpus: Sequence[int]
) -> tuple[str, ...]:
    """The devices whose counters give the energy of work on `gpus`, by PyTorch's numbers, or on the
    CPU if empty: UUIDs of GPUs, names of RAPL packages. The CPU's counters that are read beside
    GPUs, outside of the scope, are none of them: jobs on several GPUs of a machine may run at
    once."""
    source, _ = energy_sources(config, gpu=bool(gpus))
    packages = packages_of_generation(config, hardware, gpu=bool(gpus))
    if source is EnergySource.nvml:
        return (*(hardware.gpus[number].uuid for number in gpus), *packages)
    return packages


def packages_of_generation(
    config: MeterConfig, hardware: Hardware, *, gpu: bool
) -> tuple[str, ...]:
    """The RAPL packages that give the energy of generation, or a part of it."""
    source, _ = energy_sources(config, gpu=gpu)
    own = source is EnergySource.rapl or config.scope is MeterScope["gpu+cpu"]
    return metered_packages(config, hardware) if own else ()


def metered_packages(config: MeterConfig, hardware: Hardware) -> tuple[str, ...]:
    """The RAPL packages that give the energy of evaluation; none where it is an estimate."""
    _, source = energy_sources(config, gpu=False)
    if source is not EnergySource.rapl:
        return ()
    names = (device for device in hardware.rapl.devices if device.startswith("cpu:"))
    return tuple(f"rapl-package-{name.removeprefix('cpu:')}" for name in names)
