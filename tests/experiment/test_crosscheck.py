"""What a run says when the two methods of measuring energy disagree."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from codejoule.experiment.results import crosscheck

PLAN: Any = SimpleNamespace(
    experiment=SimpleNamespace(meter=SimpleNamespace(crosscheck_threshold=0.05))
)


def test_methods_that_differ_are_a_tag_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tags = crosscheck(PLAN, {"energy_crosscheck_rel": -0.08})
    assert tags == {"codejoule.energy_crosscheck": "differs"}
    assert "integrated power differs from the counter by -8.0 %, more than" in caplog.text
    assert "meter.crosscheck_threshold=0.05 allows" in caplog.text


def test_methods_that_agree_are_a_tag_and_a_missing_one_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        agree = crosscheck(PLAN, {"energy_crosscheck_rel": 0.05})
        assert agree == {"codejoule.energy_crosscheck": "agrees"}
        assert crosscheck(PLAN, {}) == {}
    assert caplog.text == ""
