"""A store that was moved or copied is read and written where it is."""

import shutil

import pytest
from mlflow.tracking import MlflowClient

from codejoule.analysis import analyse, load_runs, read_tasks
from codejoule.analysis.store import relocated
from codejoule.config import UserError
from codejoule.config.schema import TrackingConfig
from codejoule.report import log_report
from codejoule.tracking import prepare_store
from tests.analysis.conftest import Recorder


@pytest.fixture
def small_store(tmp_path, with_database):
    """A sweep of two runs in a store of its own."""
    (tmp_path / "here").mkdir()
    project = with_database(tmp_path / "here")
    recorder = Recorder(prepare_store(TrackingConfig(dir=f"{project}/mlruns")), tmp_path)
    parent = recorder.store.start_sweep("demo", overrides=[], tags={})
    for quant in ("none", "gptq4"):
        recorder.run(parent=parent, quant__name=quant)
    recorder.run(quant__name="awq")
    recorder.store.end_sweep(parent, "FINISHED")
    return project


@pytest.mark.parametrize("way", ["moved", "copied"])
@pytest.mark.parametrize("which", ["one sweep", "all runs"])
@pytest.mark.parametrize("place", ["there/mlruns", "there/with space/a.b"])
def test_store_elsewhere_is_read_and_written_where_it_is(small_store, tmp_path, way, which, place):
    old, new = small_store / "mlruns", tmp_path / place
    new.parent.mkdir(parents=True)
    before = sorted(old.rglob("*"))
    (shutil.move if way == "moved" else shutil.copytree)(old, new)
    uri = f"sqlite:///{new}/mlflow.db"
    loaded = load_runs(uri, "codejoule", sweep="demo" if which == "one sweep" else None)
    figures, notes = read_tasks(loaded.frame, uri=uri)
    assert notes == ()
    assert len(figures.run_ids) == len(loaded.frame)
    (group,) = analyse(loaded).groups
    assert any("gives the same text as none on 20 of 20 tasks" in n for n in group.notes)
    page = tmp_path / "index.html"
    page.write_text("page")
    run_id = log_report(loaded, page)
    assert (new / "artifacts" / run_id / "artifacts" / "report" / "index.html").exists()
    assert old.exists() == (way == "copied")
    assert way == "moved" or sorted(old.rglob("*")) == before


def test_runs_without_artifacts_get_their_report_beside_the_database_too(tmp_path, with_database):
    (tmp_path / "here").mkdir()
    store = prepare_store(TrackingConfig(dir=f"{with_database(tmp_path / 'here')}/mlruns"))
    run = store.start_run(
        name="r", parent_run_id=None, tags={"codejoule.fingerprint": "f"}, params={}
    )
    run.log(metrics={"tasks": 1.0})
    run.finish("FINISHED")
    new = tmp_path / "there"
    shutil.move(tmp_path / "here" / "mlruns", new)
    loaded = load_runs(f"sqlite:///{new}/mlflow.db", "codejoule")
    assert len(loaded.frame) == 1
    page = tmp_path / "index.html"
    page.write_text("page")
    run_id = log_report(loaded, page)
    assert (new / "artifacts" / run_id / "artifacts" / "report" / "index.html").exists()
    assert not (tmp_path / "here" / "mlruns").exists()


def test_the_page_of_a_store_in_its_place_is_logged_through_mlflow(small_store, tmp_path):
    uri = f"sqlite:///{small_store}/mlruns/mlflow.db"
    page = tmp_path / "index.html"
    page.write_text("page")
    run_id = log_report(load_runs(uri, "codejoule"), page)
    assert [f.path for f in MlflowClient(uri).list_artifacts(run_id, "report")] == [
        "report/index.html"
    ]


@pytest.mark.parametrize(
    "uri", ["s3://bucket/artifacts/r/artifacts", "mlflow-artifacts:/0/r/artifacts"]
)
def test_artifacts_of_a_remote_place_are_where_the_store_says(uri, tmp_path):
    assert relocated(f"sqlite:///{tmp_path}/mlflow.db", [uri]) is None


def test_report_that_cannot_be_written_is_told(small_store, tmp_path):
    new = shutil.move(small_store / "mlruns", tmp_path / "there")
    loaded = load_runs(f"sqlite:///{new}/mlflow.db", "codejoule", sweep="demo")
    (new / "artifacts" / loaded.frame["sweep"].iloc[0]).write_text("in the way")
    page = tmp_path / "index.html"
    page.write_text("page")
    with pytest.raises(UserError, match=r"cannot be logged .* --no-log leaves it out"):
        log_report(loaded, page)
