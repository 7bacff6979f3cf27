"""The estimate, on this very process."""

import threading
import time

import pytest

from codejoule.config.schema import MeterConfig, MeterName
from codejoule.domain import FIRST_TOKEN, EnergyScope, EnergySource
from codejoule.measurement import Meter, open_cpu_meter, open_meter


def _estimate(watts_per_core: float = 10.0, **settings: float) -> Meter:
    config = MeterConfig(name=MeterName.cpu_estimate, cpu_watts_per_core=watts_per_core, **settings)
    return open_meter(config)


def _burn(cpu_s: float) -> None:
    end_s = time.thread_time() + cpu_s
    while time.thread_time() < end_s:
        pass


def test_the_estimate_is_cpu_time_of_all_threads_times_watts() -> None:
    with _estimate() as meter, meter.window("batch") as window:
        thread = threading.Thread(target=_burn, args=(0.2,))
        thread.start()
        _burn(0.1)
        thread.join()
    reading = window.reading
    assert reading.energy_j == pytest.approx(3.0, rel=0.2)
    assert reading.source is EnergySource.estimate
    assert reading.scope is EnergyScope.cpu
    assert reading.energy_by_device_j == {"cpu": reading.energy_j}
    assert reading.start_s == pytest.approx(time.time(), abs=60)


def test_sleeping_costs_next_to_nothing_but_is_not_absent() -> None:
    with _estimate() as meter, meter.window("batch") as window:
        time.sleep(0.4)
    assert 0 < window.reading.energy_j < 0.5
    assert window.reading.latency_s >= 0.4


def test_marks_divide_the_estimate() -> None:
    with _estimate() as meter, meter.window("batch") as window:
        _burn(0.1)
        window.mark(FIRST_TOKEN)
        _burn(0.2)
    reading = window.reading
    assert reading.energy_at_marks_j[FIRST_TOKEN] == pytest.approx(1.0, rel=0.2)
    assert reading.energy_at_marks_j[FIRST_TOKEN] < reading.energy_j
    assert 0.1 <= reading.marks_s[FIRST_TOKEN] < reading.latency_s


def test_idle_power_of_an_estimate_is_undefined() -> None:
    with _estimate() as meter:
        assert meter.measure_idle() is None
        with meter.window("batch") as window:
            pass
    assert window.reading.energy_net_j is None


def test_the_timeline_follows_the_load() -> None:
    with _estimate(sample_period_s=0.02) as meter:
        _burn(0.3)
        busy = meter.new_power()
    assert {sample.device for sample in busy} == {"cpu"}
    assert [s.time_s for s in busy] == sorted(s.time_s for s in busy)
    assert 1.0 < sorted(s.power_w for s in busy)[len(busy) // 2] < 20.0


def test_the_sampler_costs_little() -> None:
    start_s = time.process_time()
    with _estimate():
        time.sleep(1.0)
    assert time.process_time() - start_s < 0.02


def test_a_closed_meter_opens_no_window() -> None:
    meter = _estimate()
    meter.close()
    meter.close()
    with pytest.raises(RuntimeError, match="window 'batch': the meter is closed"):
        meter.window("batch").__enter__()


def test_a_running_window_has_no_reading() -> None:
    with (
        _estimate() as meter,
        meter.window("batch") as window,
        pytest.raises(RuntimeError, match="its block has not ended"),
    ):
        _ = window.reading


def test_the_cpu_meter_estimates_where_asked_to(rapl: object) -> None:
    with open_cpu_meter(MeterConfig(name=MeterName.cpu_estimate)) as meter:
        assert meter.source is EnergySource.estimate
    with open_cpu_meter(MeterConfig(name=MeterName.auto)) as meter:
        assert meter.source is EnergySource.rapl
