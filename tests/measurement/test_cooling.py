"""Waiting for the GPUs to cool down."""

import logging
from typing import Any

import pytest

from codejoule.config import ConfigError, UserError
from codejoule.config.schema import MeterConfig, MeterName
from codejoule.domain import EnergySource
from codejoule.measurement import Meter, open_meter
from codejoule.measurement.cooling import cool_down
from codejoule.measurement.counter import Counter
from codejoule.measurement.ledger import Ledger


def _meter(ledger: Ledger, *, longest_s: float, temperature_c: float | None) -> Meter:
    return Meter(
        Counter(ledger.devices, source=EnergySource.nvml),
        sample_period_s=0.1,
        idle_s=0.0,
        ledger=ledger,
        cooldown_s=longest_s,
        cooldown_temperature_c=temperature_c,
    )


def test_it_ends_when_the_warmest_gpu_is_cool_enough(open_ledger: Any) -> None:
    cards = {"GPU-2": {"temperature_c": 60, "cools_c_per_s": 10}}
    ledger = open_ledger("GPU-1", "GPU-2", cards=cards)
    with _meter(ledger, longest_s=20.0, temperature_c=55.0) as meter:
        cooling = meter.cool_down()
    assert cooling is not None
    assert cooling.reached
    assert cooling.temperature_start_c is not None
    assert 55 < cooling.temperature_start_c <= 60
    assert cooling.temperature_end_c is not None
    assert cooling.temperature_end_c <= 55
    assert 0.1 < cooling.waited_s < 3.0


def test_it_gives_up_after_its_time_with_a_word(
    open_ledger: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        _meter(open_ledger(temperature_c=70), longest_s=1.0, temperature_c=30.0) as meter,
        caplog.at_level(logging.WARNING),
    ):
        cooling = meter.cool_down()
    assert cooling is not None
    assert not cooling.reached
    assert "not cooled down in meter.cooldown_s=1 s (70.0 degrees Celsius now)" in caplog.text


def test_without_a_threshold_it_ends_when_power_has_settled() -> None:
    powers_w = iter([300.0, 150.0, 100.0, 80.0, 79.5])
    cooling = cool_down(
        longest_s=100.0,
        wanted_c=None,
        observed_w=lambda seconds: next(powers_w),
        temperature_c=lambda: None,
        tolerance=0.02,
    )
    assert cooling.reached
    assert next(powers_w, None) is None
    assert cooling.temperature_start_c is None


def test_a_threshold_without_a_thermometer_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"cooldown_temperature_c=50: the driver gives no"):
        cool_down(
            longest_s=1.0,
            wanted_c=50.0,
            observed_w=lambda seconds: 100.0,
            temperature_c=lambda: None,
            tolerance=0.02,
        )


def test_it_is_off_by_default_and_an_error_without_a_gpu(no_rapl: None) -> None:
    with open_meter(MeterConfig()) as meter:
        assert meter.cool_down() is None
    with pytest.raises(UserError, match=r"meter\.cooldown_s=60: the run uses no GPU"):
        open_meter(MeterConfig(cooldown_s=60.0))


def test_settings_that_mean_nothing_are_errors() -> None:
    with pytest.raises(ConfigError, match=r"cooldown_s=0 turns cool-downs off"):
        MeterConfig(cooldown_temperature_c=50.0)
    with pytest.raises(ConfigError, match=r"meter\.cooldown_s=9\.0: meter=cpu_estimate watches no"):
        MeterConfig(name=MeterName.cpu_estimate, cooldown_s=9.0)
