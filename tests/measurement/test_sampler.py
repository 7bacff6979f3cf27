import logging
import time

import pytest

from codejoule.measurement.counter import PowerSampler


def test_a_source_that_fails_ends_the_timeline_with_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers = iter([{"gpu:0": 100.0, "gpu:1": 50.0}])
    with caplog.at_level(logging.WARNING):
        sampler = PowerSampler(lambda: next(answers), period_s=0.01)
        time.sleep(0.2)
        sampler.stop()
    assert [(s.device, s.power_w) for s in sampler.new()] == [("gpu:0", 100), ("gpu:1", 50)]
    assert sampler.latest_w() is None
    assert "power timeline ends here" in caplog.text


def test_the_latest_power_is_that_of_all_devices() -> None:
    sampler = PowerSampler(lambda: {"gpu:0": 100.0, "gpu:1": 50.0}, period_s=0.01)
    time.sleep(0.1)
    sampler.stop()
    assert sampler.latest_w() == 150.0
