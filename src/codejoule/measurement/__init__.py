"""Meters: energy and time around a block, and what this machine offers to measure with."""

from codejoule.measurement.cpu import RaplStatus, share_evaluation_energy
from codejoule.measurement.hardware import Gpu, Hardware, detect_hardware
from codejoule.measurement.jobs import Work, at_work
from codejoule.measurement.meter import Meter, Slices
from codejoule.measurement.opening import (
    energy_sources,
    metered_devices,
    metered_packages,
    open_command_meter,
    open_cpu_meter,
    open_meter,
)
from codejoule.measurement.processes import ServerProcesses, find_server
from codejoule.measurement.window import Window

__all__ = [
    "Gpu",
    "Hardware",
    "Meter",
    "RaplStatus",
    "ServerProcesses",
    "Slices",
    "Window",
    "Work",
    "at_work",
    "detect_hardware",
    "energy_sources",
    "find_server",
    "metered_devices",
    "metered_packages",
    "open_command_meter",
    "open_cpu_meter",
    "open_meter",
    "share_evaluation_energy",
]
