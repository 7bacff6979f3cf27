"""Reading runs from a real store."""

import pytest

from codejoule.analysis import load_runs
from codejoule.config import UserError
from codejoule.domain import EnergyScope, EnergySource


def load(recorder, **more):
    return load_runs(recorder.store.uri, recorder.store.experiment, **more)


def test_finished_jobs_are_read_and_the_sweep_itself_is_not(sweep):
    loaded = load(sweep)
    assert len(loaded.frame) == 6
    assert loaded.left_out == ()
    assert loaded.frame["sweep"].nunique() == 1
    first = loaded.frame.iloc[0]
    assert (first["params.quant.name"], first["metrics.energy_generation_j"]) == ("gptq4", 60.0)
    assert (first["dataset_name"], first["dataset_digest"]) == ("starter", "ab" * 18)


def test_run_by_itself_is_included(recorder):
    recorder.run()
    loaded = load(recorder)
    assert len(loaded.frame) == 1
    assert loaded.frame.at[0, "sweep"] is None


def test_what_is_left_out_is_said(recorder):
    recorder.run(status="FAILED")
    recorder.run(status="KILLED", repeat=2)
    recorder.run(fingerprint="old versions", repeat=3)
    kept = recorder.run(fingerprint="new versions", repeat=3)
    recorder.run(tags={"codejoule.kind": "somebody else's"})
    loaded = load(recorder)
    assert loaded.frame["run_id"].tolist() == [kept]
    assert loaded.left_out == (
        "2 runs not finished (1 FAILED, 1 KILLED)",
        "1 run not made by codejoule",
        "1 run of a configuration that was run again later with other weights or library versions",
    )


def test_repeats_and_reruns_are_all_kept(recorder):
    runs = [recorder.run(repeat=1), recorder.run(repeat=1), recorder.run(repeat=2)]
    assert load(recorder).frame["run_id"].tolist() == runs


def test_filter_selects_runs(sweep):
    loaded = load(sweep, where="params.quant.name = 'none' and metrics.energy_generation_j > 50")
    assert loaded.frame["params.quant.name"].tolist() == ["none"]
    assert loaded.frame["params.batch.size"].tolist() == ["1"]


def test_runs_can_be_named(sweep):
    ids = load(sweep).frame["run_id"].tolist()[1:3]
    assert load(sweep, run_ids=ids).frame["run_id"].tolist() == ids


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each search brought."""
    from mlflow.tracking import MlflowClient

    sizes: list[int] = []
    search = MlflowClient.search_runs

    def counted(self, *args, **more):
        page = search(self, *args, **more)
        sizes.append(len(page))
        return page

    monkeypatch.setattr(MlflowClient, "search_runs", counted)
    return sizes


def crowded(recorder, jobs: int = 3) -> tuple[str, list[str]]:
    """A sweep among other runs; its parent and its jobs."""
    parent = recorder.store.start_sweep("mine's", overrides=[], tags={})
    other = recorder.store.start_sweep("other", overrides=[], tags={})
    ids = []
    for repeat in range(1, jobs + 1):
        recorder.run(repeat=repeat, parent=other)
        ids.append(recorder.run(repeat=repeat, parent=parent, batch__size=8))
        recorder.run(repeat=repeat, batch__size=4)
    return parent, ids


def test_named_runs_alone_are_fetched(recorder, fetched, monkeypatch):
    _, ids = crowded(recorder)
    monkeypatch.setattr("codejoule.analysis.runs._IDS", 2)
    monkeypatch.setattr("codejoule.analysis.runs._FEWEST", 4)
    assert load(recorder, run_ids=ids).frame["run_id"].tolist() == ids
    # Three runs, the newest other for how much runs vary, and no run that trains.
    assert sorted(fetched) == [0, 1, 1, 2]
    some = load(recorder, run_ids=ids, where="params.repeat = '2'")
    assert some.frame["run_id"].tolist() == ids[1:2]
    assert load(recorder, run_ids=[]).frame.empty


@pytest.mark.parametrize("by", ["name", "id"])
def test_the_jobs_of_one_sweep_alone_are_fetched(recorder, fetched, by, monkeypatch):
    parent, ids = crowded(recorder)
    monkeypatch.setattr("codejoule.analysis.runs._FEWEST", 4)
    loaded = load(recorder, sweep="mine's" if by == "name" else parent)
    assert loaded.frame["run_id"].tolist() == ids
    found = "the parent, its jobs, and the newest other for how much runs vary"
    assert sum(fetched) == 1 + len(ids) + 1, found


def test_wrong_filter_is_told_with_an_example(sweep):
    with pytest.raises(UserError, match=r"--where 'quant=gptq4' is no filter .* An example: "):
        load(sweep, where="quant=gptq4")


def test_unknown_experiment_lists_the_known_ones(sweep):
    with pytest.raises(UserError, match=r"no experiment 'nope' .* choose one of .*sweep"):
        load_runs(sweep.store.uri, "nope")


def test_missing_store_is_not_created(tmp_path):
    with pytest.raises(UserError, match=r"there are no runs yet.*codejoule run"):
        load_runs(f"sqlite:///{tmp_path}/mlflow.db", "codejoule")
    assert list(tmp_path.iterdir()) == []


def test_absent_metric_is_nan_and_absent_tag_is_none(recorder):
    recorder.run(judged=False)
    recorder.run(
        repeat=2, source=EnergySource.nvml, scope=EnergyScope.gpu, tags={"codejoule.gpu": "H200"}
    )
    frame = load(recorder).frame
    assert frame["metrics.pass_at_1"].isna().tolist() == [True, False]
    assert frame["metrics.energy_gpu_j"].isna().tolist() == [True, False]
    assert frame["tags.codejoule.gpu"].tolist() == [None, "H200"]
