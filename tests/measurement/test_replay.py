"""The ledger over a recording of a real H200: see tests/golden/README.md."""

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codejoule.config import UserError
from codejoule.config.schema import MeterConfig, MeterName
from codejoule.domain import FIRST_TOKEN, EnergyScope, EnergySource
from codejoule.measurement import open_meter
from codejoule.measurement.feed import (
    BUNDLED_RECORDING,
    Recording,
    Records,
    load_recording,
    save_recording,
)
from codejoule.measurement.ledger import Ledger

PATH = BUNDLED_RECORDING
RECORDING = load_recording(PATH)
WINDOWS = RECORDING.about["windows"]


class Finished:
    """A feed that gives a whole recording at once."""

    devices = RECORDING.devices

    def __init__(self, records: Records) -> None:
        self._records = records

    def read(self) -> Records:
        records, self._records = self._records, self._records[:0]
        return records

    def close(self) -> None:
        pass


def _ledger() -> Ledger:
    ledger = Ledger(Finished(RECORDING.records))
    for window in WINDOWS:
        ledger.note(window["opened_s"])
        ledger.note(window["closed_s"])
    return ledger


def _errors(length_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Relative error against steady power of the ledger and of Zeus' begin/end."""
    ledger, truth_w = _ledger(), RECORDING.about["steady_w"]
    ours, zeus = [], []
    for window in WINDOWS:
        if window["length_s"] != length_s or window["codecarbon_j"] is not None:
            continue
        span = window["opened_s"], window["closed_s"]
        true_j = truth_w[window["kind"]] * (span[1] - span[0])
        ours.append(abs(ledger.entry(*span, {}).by_device_j["gpu:0"] / true_j - 1))
        zeus.append(abs(window["zeus_j"] / true_j - 1))
    return np.array(ours), np.array(zeus)


def test_at_one_second_the_ledger_is_within_its_promise_and_half_of_begin_end() -> None:
    ours, zeus = _errors(1.0)
    assert np.median(ours) <= 0.015
    assert np.median(ours) <= np.median(zeus) / 2


def test_at_half_a_second_the_ledger_is_within_its_promise() -> None:
    ours, _ = _errors(0.5)
    assert np.median(ours) <= 0.04
    assert np.percentile(ours, 90) <= 0.05


def test_zeus_windows_lie_between_the_ticks_the_ledger_saw() -> None:
    ledger = _ledger()
    for window in WINDOWS:
        asked_s, done_s = window["opened_s"] - 0.06, window["closed_s"] + 0.06
        low_j, high_j = ledger.bounds_j(
            "gpu:0", (asked_s, window["opened_s"]), (window["closed_s"], done_s)
        )
        assert low_j - 0.01 <= window["zeus_j"] <= high_j + 0.01


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.floats(40.0, 120.0), min_size=1, max_size=20, unique=True))
def test_any_partition_of_a_recorded_run_adds_up(cuts: list[float]) -> None:
    ledger = _ledger()
    start_s = float(RECORDING.records["after_s"][0])
    moments = [start_s + offset_s for offset_s in sorted(cuts)]
    moments = [start_s + 39.0, *moments, start_s + 121.0]
    parts = [ledger.entry(a, b, {}) for a, b in pairwise(moments)]
    whole_j = ledger.entry(moments[0], moments[-1], {}).by_device_j["gpu:0"]
    parts_j = [part.by_device_j["gpu:0"] for part in parts]
    known_j = [part_j for part_j in parts_j if not np.isnan(part_j)]
    assert sum(known_j) == pytest.approx(whole_j, rel=1e-6)
    assert min(known_j) > 0


def test_the_errors_of_windows_are_what_their_uncertainty_says() -> None:
    ledger, truth_w = _ledger(), RECORDING.about["steady_w"]
    ratios = []
    for window in WINDOWS:
        length_s = window["closed_s"] - window["opened_s"]
        entry = ledger.entry(window["opened_s"], window["closed_s"], {})
        error_j = entry.by_device_j["gpu:0"] - truth_w[window["kind"]] * length_s
        # Steady power itself holds to 1 % only: short windows run cooler than long ones.
        truth_j = 0.01 * truth_w[window["kind"]] * length_s
        ratios.append(abs(error_j) / (entry.uncertainty_j**2 + truth_j**2) ** 0.5)
    assert np.mean(np.array(ratios) <= 1) >= 0.6
    assert np.mean(np.array(ratios) <= 2) >= 0.9


def test_a_replay_meter_gives_the_recorded_energy_phases_and_uncertainty() -> None:
    config = MeterConfig(name=MeterName.replay, recording=str(PATH))
    with open_meter(config) as meter:
        idle_power_w = meter.measure_idle()
        with meter.window("batch") as window:
            time.sleep(0.2)
            window.mark(FIRST_TOKEN)
            time.sleep(0.3)
        reading = window.reading
        timeline = meter.new_power()
        time.sleep(0.15)
        later = meter.new_power()
    assert reading.source is EnergySource.replay
    assert reading.scope is EnergyScope.gpu
    assert idle_power_w == RECORDING.about["idle_w"] == 122.0
    assert reading.energy_net_j == pytest.approx(
        reading.energy_j - idle_power_w * reading.latency_s
    )
    assert 0 < reading.energy_at_marks_j[FIRST_TOKEN] < reading.energy_j
    assert reading.uncertainty_j is not None
    assert reading.ticks is not None
    assert reading.ticks >= 4
    assert reading.integrated_j is not None
    assert timeline
    assert later
    assert later[0].time_s >= timeline[-1].time_s
    assert abs(timeline[-1].time_s - time.time()) < 60


@pytest.mark.parametrize("stated", [True, False])
def test_a_replay_has_the_idle_power_of_its_recording_or_none(tmp_path: Path, stated: bool) -> None:
    about = {**RECORDING.about, "idle_w": 99.0} if stated else {}
    save_recording(tmp_path / "r.npz", Recording(RECORDING.records, RECORDING.devices, about))
    config = MeterConfig(name=MeterName.replay, recording=str(tmp_path / "r.npz"))
    with open_meter(config) as meter:
        began_s = time.monotonic()
        assert meter.measure_idle() == (99.0 if stated else None)
        assert time.monotonic() - began_s < 0.4
        with meter.window("batch") as window:
            time.sleep(0.1)
    assert (window.reading.energy_net_j is not None) == stated


def test_a_window_shorter_than_a_tick_has_an_uncertainty_instead_of_nothing() -> None:
    config = MeterConfig(name=MeterName.replay, recording=str(PATH))
    with open_meter(config) as meter:
        with meter.window("batch") as window:
            time.sleep(0.005)
        assert window.reading.energy_j > 0
        assert window.reading.uncertainty_j is not None


def test_a_replay_without_a_recording_plays_the_one_that_comes_along() -> None:
    with open_meter(MeterConfig(name=MeterName.replay)) as meter:
        assert meter.devices == ("gpu:0",) and meter.measure_idle() == 122.0


def test_a_file_that_is_no_recording_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_text("no")
    with pytest.raises(UserError, match=r"x\.npz: not a recording of energy ticks"):
        open_meter(MeterConfig(name=MeterName.replay, recording=str(path)))
