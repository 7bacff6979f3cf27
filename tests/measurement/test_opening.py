import logging
from typing import Any

import pytest

from codejoule.config import UserError
from codejoule.config.schema import MeterConfig, MeterName
from codejoule.domain import EnergySource
from codejoule.measurement import open_command_meter, open_meter


def test_an_estimate_for_a_gpu_run_says_what_it_leaves_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        caplog.at_level(logging.WARNING),
        open_meter(MeterConfig(name=MeterName.cpu_estimate), gpu_indices=[0]) as meter,
    ):
        assert meter.source is EnergySource.estimate
    assert "their energy is not in the figures" in caplog.text


@pytest.mark.parametrize(
    ("trap", "text"),
    [
        (
            "mig",
            r"GPU 1 \(NVIDIA H200\) has MIG on, and NVML counts energy per card.*VISIBLE_DEVICES",
        ),
        (
            "counter",
            r"GPU 1 \(NVIDIA H200\) has no readable energy counter.*out with CUDA_VISIBLE_DEVICES",
        ),
    ],
)
def test_a_command_on_a_machine_with_a_gpu_that_cannot_be_counted_is_an_error(
    nvml: Any, no_rapl: None, trap: str, text: str
) -> None:
    setattr(nvml.cards[1], trap, trap == "mig")
    with pytest.raises(UserError, match=text):
        open_command_meter(MeterConfig())
