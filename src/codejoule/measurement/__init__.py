"""Meters: energy and time around a block, and what this machine offers to measure with."""

from codejoule.measurement.cpu import RaplStatus, share_evaluation_energy
from codejoule.measurement.hardware import Gpu, Hardware, detect_gpus, detect_hardware, showing
from codejoule.measurement.jobs import Choice, Work, at_work
from codejoule.measurement.meter import Meter, Slices
from codejoule.measurement.opening import (
    energy_sources,
    metered_devices,
    metered_packages,
    open_command_meter,
    open_cpu_meter,
    open_meter,
    packages_of_generation,
)
from codejoule.measurement.processes import ServerProcesses, find_server, in_use, mapped_by
from codejoule.measurement.window import Window

__all__ = [
    "Choice",
    "Gpu",
    "Hardware",
    "Meter",
    "RaplStatus",
    "ServerProcesses",
    "Slices",
    "Window",
    "Work",
    "at_work",
    "detect_gpus",
    "detect_hardware",
    "energy_sources",
    "find_server",
    "in_use",
    "mapped_by",
    "metered_devices",
    "metered_packages",
    "open_command_meter",
    "open_cpu_meter",
    "open_meter",
    "packages_of_generation",
    "share_evaluation_energy",
    "showing",
]
