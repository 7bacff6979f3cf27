"""What this room uses of Zeus without its promise, each in one place. `VERSIONS` says for which
versions that was tried; `tests/measurement/test_compat.py` fails by name where another one has
changed it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

VERSIONS = {"zeus": "0.16"}


class CounterFile(NamedTuple):
    """A file in which Linux shows an energy counter."""

    path: Path
    range_j: float
    """Where it begins at 0 again [J]."""


def synchronize(gpu_indices: Sequence[int]) -> None:
    """Wait until GPUs have done what PyTorch gave them, as Zeus does at a window's edges."""
    from zeus.utils import framework

    framework.sync_execution(list(gpu_indices), sync_with="torch")


def nvml_handle(monitor: Any, index: int) -> Any:
    """NVML's handle of the card that a monitor calls `index`."""
    return monitor.gpus.gpus[index].handle


def rapl_files(index: int, folder: Path) -> tuple[CounterFile, CounterFile | None]:
    """The counters of a CPU package and of its memory, if that has one; raises Zeus' errors."""
    from zeus.device.cpu.rapl import RAPLCPU

    def of(file: Any) -> CounterFile:
        return CounterFile(Path(file.energy_uj_path), float(file.max_energy_range_uj) / 1e6)

    cpu = RAPLCPU(index, str(folder))
    return of(cpu.rapl_file), None if cpu.dram is None else of(cpu.dram)
