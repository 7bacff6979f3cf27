"""Which source a meter will use, known before it is opened."""

from collections.abc import Sequence

from codejoule.config.schema import MeterConfig, MeterName, MeterScope
from codejoule.domain import EnergySource
from codejoule.measurement.hardware import Hardware
from codejoule.measurement.rapl import rapl_status


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
    """The devices whose counters give the energy of work on `gpus`, by PyTorch's numbers, or on
    the CPU if empty: UUIDs of GPUs, names of RAPL packages.

    The CPU's counters that are read beside GPUs, outside of the scope, are none of them: jobs on
    several GPUs of a machine may run at once.
    """
    source, _ = energy_sources(config, gpu=bool(gpus))
    own = source is EnergySource.rapl or config.scope is MeterScope["gpu+cpu"]
    packages = metered_packages(config, hardware) if own else ()
    if source is EnergySource.nvml:
        return (*(hardware.gpus[number].uuid for number in gpus), *packages)
    return packages


def metered_packages(config: MeterConfig, hardware: Hardware) -> tuple[str, ...]:
    """The RAPL packages that give the energy of evaluation; none where it is an estimate."""
    _, source = energy_sources(config, gpu=False)
    if source is not EnergySource.rapl:
        return ()
    names = (device for device in hardware.rapl.devices if device.startswith("cpu:"))
    return tuple(f"rapl-package-{name.removeprefix('cpu:')}" for name in names)
