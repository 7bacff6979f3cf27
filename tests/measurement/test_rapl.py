"""RAPL over a powercap tree made for the test."""

import shutil
import time
from typing import Any

import pytest
import zeus.device.cpu.rapl
from zeus.device.cpu.common import ZeusCPUNoPermissionError

from codejoule.config import UserError
from codejoule.config.schema import MeterConfig, MeterName
from codejoule.domain import FIRST_TOKEN, EnergyScope, EnergySource
from codejoule.measurement import Meter, open_cpu_meter, open_meter
from codejoule.measurement.cpu import rapl_status


def _meter() -> Meter:
    return open_meter(MeterConfig(name=MeterName.zeus))


def test_a_window_covers_packages_and_memory_but_not_the_platform_zone(rapl: Any) -> None:
    with _meter() as meter, meter.window("batch") as window:
        # The sampler may be some tenths of a second late where other tests run.
        time.sleep(0.6)
        window.mark(FIRST_TOKEN)
        time.sleep(0.6)
    reading = window.reading
    assert reading.source is EnergySource.rapl
    assert reading.scope is EnergyScope.cpu
    assert set(reading.energy_by_device_j) == {"cpu:0", "dram:0"}
    assert reading.energy_by_device_j["cpu:0"] == pytest.approx(50 * reading.latency_s, rel=0.25)
    assert reading.energy_by_device_j["dram:0"] == pytest.approx(5 * reading.latency_s, rel=0.25)
    at_mark_j = reading.energy_at_marks_j[FIRST_TOKEN]
    assert at_mark_j == pytest.approx(55 * reading.marks_s[FIRST_TOKEN], rel=0.3)


def test_idle_power_is_left_to_gpus(rapl: Any) -> None:
    with _meter() as meter:
        assert meter.measure_idle() is None


def test_a_counter_that_wraps_around_goes_on(rapl: Any) -> None:
    with _meter() as meter, meter.window("batch") as window:
        time.sleep(0.1)
        now_uj = int((rapl.folder / "intel-rapl:0/energy_uj").read_text())
        rapl.start_uj["intel-rapl:0"] += rapl.RANGE_UJ - now_uj - 4_000_000
        # The jump to the end of the range is this test's own; it ends 4 J before the wrap.
        time.sleep(0.02)
        with meter.window("across") as across:
            time.sleep(0.8)
    raw_uj = int((rapl.folder / "intel-rapl:0/energy_uj").read_text())
    assert raw_uj < rapl.RANGE_UJ / 2
    reading = across.reading
    assert reading.energy_by_device_j["cpu:0"] == pytest.approx(50 * reading.latency_s, rel=0.25)
    assert window.reading.energy_j > reading.energy_j


def test_a_counter_that_was_reset_is_an_error(rapl: Any) -> None:
    rapl.start_uj["intel-rapl:0"] = 100_000_000_000
    time.sleep(0.02)
    meter = _meter()
    rapl.start_uj["intel-rapl:0"] = 0
    time.sleep(0.02)
    with (
        meter,
        pytest.raises(UserError, match=r"counter of cpu:0 .* went backwards.*no wrap-around"),
        meter.window("batch"),
    ):
        pass


def test_a_counter_that_stops_is_an_error_and_not_zero(rapl: Any) -> None:
    meter = _meter()
    rapl.freeze("intel-rapl:0/intel-rapl:0:1")
    with (
        meter,
        pytest.raises(UserError, match=r"counter of dram:0 stood still"),
        meter.window("batch"),
    ):
        time.sleep(0.3)


def test_counters_that_never_move_are_no_counters(rapl: Any) -> None:
    rapl.freeze("intel-rapl:0/intel-rapl:0:1")
    assert rapl_status().devices == ("cpu:0",)
    rapl.freeze("intel-rapl:0")
    status = rapl_status()
    assert not status.readable
    assert status.problem == "RAPL counter of cpu:0 stands still, as in virtual machines"


def test_without_permission_the_fix_is_named(rapl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(index: int, folder: str) -> None:
        raise ZeusCPUNoPermissionError("no")

    monkeypatch.setattr(zeus.device.cpu.rapl, "RAPLCPU", denied)
    status = rapl_status()
    assert "only root may read them" in (status.problem or "")
    assert "sudo chmod" in (status.fix or "")


def test_incomplete_trees_are_no_counters(rapl: Any) -> None:
    (rapl.folder / "intel-rapl:0" / "max_energy_range_uj").unlink()
    assert "incomplete" in (rapl_status().problem or "")
    rapl.stop()
    shutil.rmtree(rapl.folder / "intel-rapl:0")
    assert "holds no CPU package" in (rapl_status().problem or "")


def test_zeus_without_any_counter_names_what_was_looked_for(no_rapl: None) -> None:
    with pytest.raises(
        UserError,
        match=r"meter=zeus: no energy counter.*NVML.*RAPL \(no RAPL: .*\).*meter=cpu_estimate",
    ):
        _meter()


def test_auto_takes_rapl_where_it_can_be_read_else_the_estimate(rapl: Any) -> None:
    with open_meter(MeterConfig()) as meter:
        assert meter.source is EnergySource.rapl
    rapl.stop()
    shutil.rmtree(rapl.folder)
    for opened in (open_meter, open_cpu_meter):
        with opened(MeterConfig()) as meter:
            assert meter.source is EnergySource.estimate
