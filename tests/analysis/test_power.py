"""Power over time of runs: from the first window on, with an area that is the run's energy."""

from types import SimpleNamespace

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from codejoule.analysis import load_runs, power_profiles
from codejoule.config.schema import TrackingConfig
from codejoule.tracking import prepare_store, write_power_parquet, write_windows_parquet
from tests.analysis.simulated import write_run


@pytest.fixture
def recorded(tmp_path, with_database):
    """From samples (time, device, watts) and windows (opening, length, joules) to a profile."""
    store = prepare_store(
        TrackingConfig(experiment="power", dir=f"{with_database(tmp_path)}/mlruns")
    )

    def record(samples, windows, *, scope="gpu", points=100):
        run_id = write_run(
            store, tmp_path, quant="none", energy_j=np.full(4, 5.0), passed=np.ones(4, bool),
            tags={"codejoule.energy_scope": scope},
        )  # fmt: skip
        names = ("time_s", "device", "power_w"), ("start_s", "latency_s", "energy_j")
        power, opened = tmp_path / "power.parquet", tmp_path / "windows.parquet"
        write_power_parquet(
            [SimpleNamespace(**dict(zip(names[0], s, strict=True))) for s in samples], power
        )
        write_windows_parquet(
            [SimpleNamespace(**dict(zip(names[1], w, strict=True))) for w in windows], opened
        )
        for path in (power, opened):
            MlflowClient(store.uri).log_artifact(run_id, str(path))
        frame = load_runs(store.uri, "power").frame
        (profile,) = power_profiles(frame, [run_id], uri=store.uri, points=points)
        return profile

    return record


def test_time_begins_with_the_first_window_and_the_area_is_the_energy(recorded):
    samples = [(1000 + t, "gpu:0", 100.0 if t < 12 else 300.0) for t in range(30)]
    own = recorded(samples, [(1010.0, 5.0, 1100.0), (1015.5, 4.5, 1350.0)])
    assert own.windows_s.tolist() == [[0.0, 5.0], [5.5, 10.0]]
    assert own.edges_s[[0, -1]].tolist() == [0.0, 10.0]
    assert own.sampled_j == pytest.approx(2 * 100 + 3 * 300 + 4.5 * 300)
    assert (own.power_w * np.diff(own.edges_s)).sum() == pytest.approx(2 * 100 + 8 * 300)
    assert own.energy_j == 2450


def test_devices_in_scope_are_added_up_and_others_left_out(recorded):
    samples = [
        (t, device, watts) for t in range(20)
        for device, watts in (("gpu:0", 100.0), ("gpu:1", 50.0), ("cpu:0", 7.0), ("dram:0", 2.0))
    ]  # fmt: skip
    windows = [(2.0, 10.0, 1.0)]
    for scope, watts in (("gpu", 150), ("gpu+cpu", 159), ("cpu", 9)):
        assert recorded(samples, windows, scope=scope).power_w == pytest.approx(watts)


def test_pause_of_a_continued_run_is_left_out(recorded):
    samples = [(t, "gpu:0", 100.0) for t in range(10)] + [
        (t, "gpu:0", 20.0) for t in range(10, 500)
    ]
    samples += [(t, "gpu:0", 100.0) for t in range(500, 520)]
    own = recorded(samples, [(0.0, 10.0, 1000.0), (500.0, 10.0, 1000.0)], points=77)
    assert own.windows_s.tolist() == [[0.0, 10.0], [10.0, 20.0]]
    assert own.power_w == pytest.approx(100)


def test_run_without_windows_has_no_profile(tmp_path, with_database):
    store = prepare_store(
        TrackingConfig(experiment="none", dir=f"{with_database(tmp_path)}/mlruns")
    )
    run_id = write_run(
        store, tmp_path, quant="none", energy_j=np.full(4, 5.0), passed=np.ones(4, bool)
    )
    frame = load_runs(store.uri, "none").frame
    assert power_profiles(frame, [run_id], uri=store.uri) == []
