"""Meters: energy and time around a block, and what this machine offers to measure with."""

from codejoule.measurement.amd import amd_problem
from codejoule.measurement.choice import energy_sources, metered_devices, metered_packages
from codejoule.measurement.hardware import Gpu, Hardware, detect_hardware
from codejoule.measurement.jobs import Work, at_work
from codejoule.measurement.meter import Meter, Window
from codejoule.measurement.opening import open_command_meter, open_cpu_meter, open_meter
from codejoule.measurement.rapl import RaplStatus
from codejoule.measurement.sampler import PowerSample
from codejoule.measurement.served import ServerProcesses, find_server
from codejoule.measurement.sharing import share_evaluation_energy

__all__ = [
    "Gpu",
    "Hardware",
    "Meter",
    "PowerSample",
    "RaplStatus",
    "ServerProcesses",
    "Window",
    "Work",
    "amd_problem",
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
