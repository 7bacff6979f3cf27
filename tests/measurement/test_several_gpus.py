"""Several GPUs in one ledger, and the model on some of them."""

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codejoule.config import UserError
from codejoule.config.schema import MeterConfig, MeterName
from codejoule.experiment.model_stage import gpus_of
from codejoule.measurement import Meter, open_meter
from codejoule.measurement.feed import (
    BUNDLED_RECORDING,
    Kind,
    Recording,
    load_recording,
    save_recording,
)
from codejoule.measurement.nvml import nvml_counter

GOLDEN = BUNDLED_RECORDING

IDLE = {"GPU-2": {"steady_w": 60.0}}


def test_each_gpu_has_its_own_energy_and_the_total_is_their_sum(open_ledger: Any) -> None:
    ledger = open_ledger("GPU-1", "GPU-2", cards=IDLE)
    opened_s = time.monotonic()
    moments = [opened_s, opened_s + 0.4, opened_s + 1.0]
    for moment in moments:
        ledger.note(moment)
    whole = ledger.entry(moments[0], moments[-1], {"first": moments[1]})
    parts = [ledger.entry(a, b, {}) for a, b in pairwise(moments)]
    ledger.close()
    # 300 J in any whole second of the busy card, whatever its phase; the idle one at 60 W.
    assert whole.by_device_j["gpu:0"] == pytest.approx(300.0, rel=0.1)
    assert whole.by_device_j["gpu:1"] == pytest.approx(60.0, rel=0.03)
    for device, energy_j in whole.by_device_j.items():
        assert sum(part.by_device_j[device] for part in parts) == pytest.approx(energy_j, rel=1e-9)
    assert whole.at_marks_j["first"] == pytest.approx(sum(parts[0].by_device_j.values()), rel=1e-9)
    assert whole.integrated_j == pytest.approx(360.0, rel=0.1)
    assert {device for _, device, _ in ledger.new_powers_w()} == {"gpu:0", "gpu:1"}


def test_one_stuck_counter_of_two_is_an_error_that_names_it(open_ledger: Any) -> None:
    cards = {"GPU-2": {"steady_w": 60.0, "still_after_s": 0.4}}
    ledger = open_ledger("GPU-1", "GPU-2", cards=cards)
    opened_s = time.monotonic()
    with pytest.raises(UserError, match=r"counter of gpu:1 stood still for 1\..* s: nothing was"):
        ledger.entry(opened_s, opened_s + 1.0, {})
    ledger.close()


@pytest.mark.slow
def test_one_hanging_gpu_of_two_is_an_error_that_names_it(
    open_ledger: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codejoule.measurement.ledger.SILENCE_LIMIT_S", 2.0)
    ledger = open_ledger("GPU-1", "GPU-2", cards={"GPU-2": {"hangs_after_s": 0.5}})
    opened_s = time.monotonic()
    with pytest.raises(UserError, match="no sign of gpu:1 for 2 s: the driver does not answer"):
        ledger.entry(opened_s, opened_s + 1.0, {})
    ledger.close()


def test_a_stranger_on_the_second_gpu_is_found(open_ledger: Any) -> None:
    with pytest.raises(UserError, match="process 1, which is not part of this run, uses gpu:1"):
        open_ledger("GPU-1", "GPU-2", cards={"GPU-2": {"pids": [1]}})


def test_a_recording_of_two_gpus_replays_both(tmp_path: Path) -> None:
    one = load_recording(GOLDEN)
    start = one.records[one.records["after_s"] < 12.0]
    other = start.copy()
    other["device"] = 1
    other["value"] = np.where(other["kind"] == Kind.tick, other["value"] / 2, other["value"])
    records = np.concatenate([start, other])
    path = tmp_path / "two.npz"
    save_recording(path, Recording(records, ("gpu:0", "gpu:1"), {"idle_w": 150.0}))
    with open_meter(MeterConfig(name=MeterName.replay, recording=str(path))) as meter:
        assert meter.measure_idle() == 150.0
        with meter.window("batch") as window:
            time.sleep(0.4)
        by_device_j = window.reading.energy_by_device_j
    assert by_device_j["gpu:1"] == pytest.approx(by_device_j["gpu:0"] / 2, rel=1e-9)
    assert window.reading.energy_j == sum(by_device_j.values())


def _meter(*gpus: int) -> Meter:
    return Meter(nvml_counter(gpus), sample_period_s=0.1, idle_s=0.0)


def test_a_model_on_a_gpu_that_is_not_metered_is_an_error(nvml: Any) -> None:
    with (
        _meter(0) as meter,
        pytest.raises(
            UserError,
            match=r"lies on gpu:0, gpu:1, but energy is metered on gpu:0: what gpu:1 takes would "
            r"be missing.*CUDA_VISIBLE_DEVICES",
        ),
    ):
        meter.require_devices({0, 1})


def test_a_metered_gpu_that_the_model_does_not_use_is_an_error(nvml: Any) -> None:
    with (
        _meter(0, 1) as meter,
        pytest.raises(UserError, match=r"lies on gpu:1, .* the idling of gpu:0 would be in"),
    ):
        meter.require_devices({1})


def test_only_the_gpus_in_use_are_metered(nvml: Any) -> None:
    nvml.now_s = 1.0
    with _meter(1) as meter, meter.window("batch") as window:
        meter.require_devices({1})
        nvml.advance(1.0)
    assert set(window.reading.energy_by_device_j) == {"gpu:1"}


def test_a_subset_by_uuid_is_metered_under_cudas_numbers(
    nvml: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.cards.append(type(nvml.cards[0])(uuid="GPU-cccc0000-3", ticks=nvml.cards[0].ticks))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-cccc,0")
    visible = ("GPU-cccc0000-3", "GPU-aaaa0000-1")
    monkeypatch.setattr("codejoule.measurement.nvml._cuda_uuid", nvml.sees(*visible))
    with _meter(0, 1) as meter:
        counter: Any = meter._sources.counter
        assert counter.uuids == {"gpu:0": "GPU-cccc0000-3", "gpu:1": "GPU-aaaa0000-1"}
        assert meter.devices == ("gpu:0", "gpu:1")


def test_the_gpus_that_hold_a_model_are_those_of_its_weights_and_buffers() -> None:
    model = torch.nn.Linear(2, 2)
    assert gpus_of(model) == set()

    class Placed:
        device = torch.device("cuda", 1)

    model.buffers = lambda recurse=True: iter([Placed()])  # type: ignore[assignment]
    assert gpus_of(model) == {1}
