"""What the meters use of Zeus without a promise is still there."""

from pathlib import Path
from typing import Any

from codejoule.measurement import compat
from tests.compat import holds


def test_a_card_has_a_handle(nvml: Any) -> None:
    from zeus.monitor import ZeusMonitor

    monitor = ZeusMonitor(gpu_indices=[0], cpu_indices=[])
    with holds(compat, "zeus", "nvml_handle"):
        assert compat.nvml_handle(monitor, 0).uuid == nvml.cards[0].uuid


def test_execution_can_be_waited_for(nvml: Any) -> None:
    with holds(compat, "zeus", "synchronize"):
        compat.synchronize([])


def test_the_files_of_a_package_and_its_memory_are_found(rapl: Any) -> None:
    with holds(compat, "zeus", "rapl_files"):
        package, memory = compat.rapl_files(0, Path(rapl.folder))
        assert package.path.is_file() and package.range_j > 0
        assert memory is not None and memory.path.is_file()
