"""What docs/explanation/energy.md promises, where a line of code can check it."""

from pathlib import Path

import pytest

from codejoule.config.schema import MeterConfig, MeterName
from codejoule.domain import EnergySource
from codejoule.measurement.counter import TICK_LIMIT_S

PAGE = (Path(__file__).parents[2] / "docs" / "explanation" / "energy.md").read_text()


def test_the_page_states_the_default_watts_per_core() -> None:
    assert f"**{MeterConfig().cpu_watts_per_core:g} W**" in PAGE


def test_the_page_states_the_limit_of_a_silent_counter() -> None:
    assert f"stands still for more than {TICK_LIMIT_S:g} s" in PAGE


@pytest.mark.parametrize("source", [EnergySource.nvml, EnergySource.rapl, EnergySource.estimate])
def test_the_page_explains_every_source(source: EnergySource) -> None:
    assert f"| `{source.value}`" in PAGE


@pytest.mark.parametrize("name", list(MeterName))
def test_the_page_explains_every_meter(name: MeterName) -> None:
    assert f"`meter={name.value}`" in PAGE


def test_the_fix_for_unreadable_counters_is_on_the_page() -> None:
    rapl = Path(__file__).parents[2] / "src" / "codejoule" / "measurement" / "cpu.py"
    command = "sudo chmod -R a+r /sys/devices/virtual/powercap/intel-rapl"
    assert command in PAGE
    assert command in rapl.read_text()
