"""Sweeps and runs in a real store."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from codejoule.config.schema import TrackingConfig
from codejoule.domain import Suite
from codejoule.tracking import prepare_store
from codejoule.tracking.client import cut
from codejoule.tracking.process import has_died, process_facts


@pytest.fixture
def client(store):
    return MlflowClient(store.uri)


def suite_of(name, source):
    return Suite(
        name=name, source=source, checksum="ab" * 32, tasks=(), max_new_tokens=1, timeout_s=1.0,
        stop=(), stop_base=(),
    )  # fmt: skip


def start(store, name="job", parent=None, **more):
    arguments = {"tags": {}, "params": {}, **more}
    return store.start_run(name=name, parent_run_id=parent, **arguments)


def test_sweep_is_a_parent_run_with_its_jobs_below(store, client):
    parent = store.start_sweep("monday", overrides=["quant=none,gptq4"], tags={"note": "x"})
    run = start(store, "none", parent, tags={"codejoule.fingerprint": "f"})
    run.finish("FINISHED")
    store.end_sweep(parent, "FAILED")
    found = client.get_run(parent)
    assert found.info.status == "FAILED"
    assert found.info.run_name == "monday"
    assert found.data.tags["codejoule.kind"] == "sweep"
    assert found.data.tags["codejoule.sweep"] == "monday"
    assert found.data.tags["codejoule.overrides"] == "quant=none,gptq4"
    assert found.data.tags["note"] == "x"
    child = client.get_run(run.run_id)
    assert child.info.status == "FINISHED"
    assert child.data.tags["mlflow.parentRunId"] == parent
    assert child.data.tags["codejoule.kind"] == "run"


def test_run_by_itself_has_no_parent(store, client):
    run = start(store)
    assert "mlflow.parentRunId" not in client.get_run(run.run_id).data.tags


def test_run_keeps_metrics_tags_artifacts_and_dataset(store, client, tmp_path):
    files = [tmp_path / "config.yaml", tmp_path / "power.svg"]
    for file in files:
        file.write_text("a: 1")
    run = start(store)
    run.log(
        metrics={"energy_generation_j": 1.5, "tasks": 3, "tpot_s": math.nan, "pass_at_1": 0},
        tags={"codejoule.energy_source": "estimate"},
        artifacts=files,
        dataset=suite_of("starter", "/data/starter.jsonl"),
    )
    found = client.get_run(run.run_id)
    assert found.data.metrics == {"energy_generation_j": 1.5, "tasks": 3.0, "pass_at_1": 0.0}
    assert found.data.tags["codejoule.energy_source"] == "estimate"
    (given,) = found.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("starter", ("ab" * 32)[:36])
    assert json.loads(given.dataset.source) == {"uri": "/data/starter.jsonl"}
    assert {t.key: t.value for t in given.tags} == {"mlflow.data.context": "evaluation"}
    root = Path(found.info.artifact_uri.removeprefix("file://"))
    assert [(root / file.name).read_text() for file in files] == ["a: 1"] * 2


def test_hub_dataset_keeps_its_commit(store, client):
    run = start(store)
    run.log(dataset=suite_of("b", "hub:org/name@abc"))
    (given,) = client.get_run(run.run_id).inputs.dataset_inputs
    assert given.dataset.source_type == "hugging_face"
    assert json.loads(given.dataset.source) == {"path": "org/name", "revision": "abc"}


@pytest.mark.parametrize("value", [None, math.inf, True])
def test_metric_without_a_number_is_refused_and_nothing_is_logged(store, client, value):
    run = start(store)
    with pytest.raises(ValueError, match=r"metric energy_gpu_j is .*: leave out what was not"):
        run.log(metrics={"tasks": 1.0, "energy_gpu_j": value})
    assert client.get_run(run.run_id).data.metrics == {}


def test_params_are_the_flattened_config_however_large(store, client):
    params = {f"group.key{i}": i for i in range(250)}
    long = {"stop": "x" * 20_000, "none": None, "flag": False, "empty": ""}
    run = start(store, params=params | long)
    found = client.get_run(run.run_id).data.params
    assert len(found) == 254
    assert found["group.key249"] == "249"
    assert (found["none"], found["flag"], found["empty"]) == ("null", "false", "")
    assert found["stop"].startswith("xxx")
    assert "20000 characters, sha256 " in found["stop"]


def test_cut_texts_stay_different_and_short():
    first, second = cut("x" * 9000, 6000), cut("x" * 9001, 6000)
    assert first != second
    assert len(first) == len(second) == 6000
    assert cut("short", 6000) == "short"


def test_resumed_run_moves_to_its_new_sweep_and_keeps_its_params(store, client):
    first = store.start_sweep("first", overrides=[], tags={})
    run = start(store, "job", first, params={"a": 1})
    run.finish("KILLED")
    second = store.start_sweep("second", overrides=[], tags={})
    again = start(
        store, "job", second, params={"a": 2, "b": 3}, tags={"t": "new"}, resume_run_id=run.run_id
    )
    assert again.run_id == run.run_id
    found = client.get_run(run.run_id)
    assert found.info.status == "RUNNING"
    assert found.data.tags["mlflow.parentRunId"] == second
    assert found.data.tags["t"] == "new"
    assert found.data.params == {"a": "1", "b": "3"}


def test_run_resumed_by_itself_stays_in_its_sweep(store, client):
    sweep = store.start_sweep("first", overrides=[], tags={})
    run = start(store, "job", sweep)
    again = start(store, "job", None, resume_run_id=run.run_id)
    assert client.get_run(again.run_id).data.tags["mlflow.parentRunId"] == sweep


def test_run_that_left_the_store_is_made_anew_with_a_word(store, client, caplog):
    run = start(store)
    client.delete_run(run.run_id)
    for gone in (run.run_id, "0" * 32):
        again = start(store, resume_run_id=gone)
        assert again.run_id != gone
        assert f"run {gone} is no longer in" in caplog.text


def test_only_a_finished_run_of_the_fingerprint_is_found(store):
    tags = {"codejoule.fingerprint": "abc"}
    failed = start(store, tags=tags)
    failed.finish("FAILED")
    running = start(store, tags=tags)
    assert store.find_finished("abc") is None
    running.finish("FINISHED")
    assert store.find_finished("abc") == running.run_id
    assert store.find_finished("abd") is None


def test_run_of_a_dead_process_is_closed_and_of_a_living_one_is_not(store, project, client):
    code = """
import os, signal, sys
from pathlib import Path
from codejoule.config.schema import TrackingConfig
from codejoule.tracking import prepare_store
store = prepare_store(TrackingConfig(dir=f"{sys.argv[1]}/mlruns"))
sweep = store.start_sweep("s", overrides=[], tags={})
print(sweep, store.start_run(name="a", parent_run_id=sweep, tags={}, params={}).run_id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run(
        [sys.executable, "-c", code, str(project)], capture_output=True, text=True, check=False
    )
    sweep, run = killed.stdout.split()
    mine = start(store)
    assert {client.get_run(i).info.status for i in (sweep, run)} == {"RUNNING"}
    assert set(store.close_stale()) == {sweep, run}
    assert {client.get_run(i).info.status for i in (sweep, run)} == {"KILLED"}
    assert client.get_run(mine.run_id).info.status == "RUNNING"
    assert store.close_stale() == []


def test_a_run_whose_process_was_killed_while_it_began_is_closed(project, store, client):
    code = """
import os, signal, sys
from codejoule.config.schema import TrackingConfig
from codejoule.tracking import prepare_store
store = prepare_store(TrackingConfig(dir=f"{sys.argv[1]}/mlruns"))
store._under_way = lambda run_id: (print(run_id, flush=True), os.kill(os.getpid(), signal.SIGKILL))
store.start_sweep("s", overrides=[], tags={})
"""
    killed = subprocess.run(
        [sys.executable, "-c", code, str(project)], capture_output=True, text=True, check=False
    )
    run = killed.stdout.strip()
    assert client.get_run(run).info.status == "RUNNING"
    assert store.close_stale() == [run]
    assert client.get_run(run).info.status == "KILLED"
    assert store.close_stale() == []


def test_what_cannot_be_known_dead_is_not_dead():
    mine = process_facts()
    assert not has_died(mine)
    assert not has_died(mine | {"host": "another"})
    assert not has_died(mine | {"pid_namespace": "pid:[1]"})
    # The pid was given out again: same number, another start.
    assert has_died(mine | {"process_start": "1"})


def test_process_of_a_run_is_a_file_while_it_is_under_way_and_no_tag(store, project, client):
    sweep = store.start_sweep("s", overrides=[], tags={})
    run = start(store, parent=sweep)
    files = project / "mlruns" / "processes" / "local"
    assert {file.name for file in files.iterdir()} == {sweep, run.run_id}
    tags = client.get_run(run.run_id).data.tags
    assert "codejoule.host" in tags
    assert not [name for name in tags if "pid" in name or "process" in name or "boot" in name]
    run.finish("FINISHED")
    store.end_sweep(sweep, "FINISHED")
    assert list(files.iterdir()) == []


def test_sweep_that_is_not_kept_is_no_longer_listed(store, client):
    sweep = store.start_sweep("s", overrides=[], tags={})
    store.end_sweep(sweep, "FINISHED", keep=False)
    assert client.search_runs([store.experiment_id]) == []
    assert client.get_run(sweep).info.lifecycle_stage == "deleted"


def test_sweep_is_described_by_a_note_and_figures(store, client):
    sweep = store.start_sweep("s", overrides=[], tags={})
    store.describe_sweep(sweep, note="| a |", metrics={"best_pass_at_1": 0.5}, tags={"t": "x"})
    data = client.get_run(sweep).data
    assert data.metrics == {"best_pass_at_1": 0.5}
    assert (data.tags["mlflow.note.content"], data.tags["t"]) == ("| a |", "x")


def test_two_stores_in_one_process_do_not_touch_each_other(project, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    here = prepare_store(TrackingConfig(dir=f"{project}/mlruns"))
    there = prepare_store(TrackingConfig(dir=str(other)))
    run = start(there)
    run.finish("FINISHED")
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException):
        MlflowClient(here.uri).get_run(run.run_id)
