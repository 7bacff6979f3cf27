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
    assert "power timeline ends here" in caplog.text


def test_every_sample_is_handed_on_once() -> None:
    sampler = PowerSampler(lambda: {"gpu:0": 100.0, "gpu:1": 50.0}, period_s=0.01)
    time.sleep(0.1)
    first = sampler.new()
    sampler.stop()
    later = sampler.new()
    assert first[:2] != [] and not set(first) & set(later)
    assert sampler.new() == []
