"""Runs whose tracking server goes away are kept, and uploaded once and completely."""

import contextlib
import dataclasses
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow.tracking
import pytest
import requests
from mlflow.entities import Run
from mlflow.tracing.client import TracingClient

from codejoule.cli import main
from codejoule.config import UserError
from codejoule.config.schema import TrackingConfig, TrackingName
from codejoule.domain import Suite
from codejoule.tracking import (
    GENERATED,
    GENERATED_AS,
    JUDGED,
    STAGE,
    Outbox,
    Store,
    TaskTrace,
    prepare_store,
    upload,
)
from tests.tracking import served
from tests.tracking.test_parquet import RECORD

SUITE = Suite(
    name="tiny",
    source="/somewhere/tiny.jsonl",
    checksum="ab" * 32,
    tasks=(),
    max_new_tokens=1,
    timeout_s=1.0,
    stop=(),
    stop_base=(),
)


def trace(task: str) -> TaskTrace:
    return TaskTrace(
        task_id=task, sample=0, prompt="ask", answer="say", prompt_tokens=3, output_tokens=4,
        start_s=1.7e9, latency_s=0.5, energy_j=1.5, verdict="pass", reason=None,
    )  # fmt: skip


@dataclasses.dataclass
class Bench:
    """A server, and jobs that record on it."""

    tracking: TrackingConfig

    def open(self) -> Store:
        return prepare_store(self.tracking)

    @property
    def outbox(self) -> Outbox:
        assert self.tracking.uri is not None
        return Outbox(self.tracking.folder, self.tracking.uri)

    def there(self) -> list[Run]:
        """All runs of the server."""
        client = mlflow.tracking.MlflowClient(self.tracking.uri)
        (found,) = client.search_experiments(filter_string="name = 'codejoule'")
        return list(client.search_runs([found.experiment_id]))


@pytest.fixture
def bench(mlflow_server, tmp_path, empty_database):
    made = Bench(
        TrackingConfig(name=TrackingName.server, uri=mlflow_server.uri, dir=f"{tmp_path}/mlruns")
    )
    # MLflow's migrations take a second.
    made.outbox.folder.mkdir(parents=True)
    (made.outbox.folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    return made


def begin(store: Store, parent: str | None, name: str = "job", fingerprint: str = "f1"):
    return store.start_run(
        name=name, parent_run_id=parent, params={f"a.{i}": i for i in range(150)},
        tags={"codejoule.fingerprint": fingerprint},
    )  # fmt: skip


def record(run, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "tasks.parquet").write_bytes(bytes(range(256)) * 500)
    (folder / "config.yaml").write_text("a: 1\n")
    run.log(
        metrics={"energy_generation_j": 12.5, "pass_at_1": 0.25}, tags={"codejoule.device": "cpu"},
        artifacts=sorted(folder.iterdir()), dataset=SUITE,
    )  # fmt: skip
    run.log_traces([trace("a/1"), trace("a/2")], model="starter")


def check_whole(bench: Bench, run: Run, tmp_path: Path, parent: str) -> None:
    client = mlflow.tracking.MlflowClient(bench.tracking.uri)
    assert run.info.status == "FINISHED"
    assert {key: run.data.params[key] for key in ("a.0", "a.149")} == {"a.0": "0", "a.149": "149"}
    assert len(run.data.params) == 150
    assert run.data.metrics == {"energy_generation_j": 12.5, "pass_at_1": 0.25}
    assert run.data.tags["codejoule.device"] == "cpu"
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert "codejoule.server_run" not in run.data.tags
    (given,) = run.inputs.dataset_inputs
    assert given.dataset.name == "tiny"
    assert given.tags[0].value == "evaluation"
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {
        "tasks.parquet", "config.yaml",
    }  # fmt: skip
    back = client.download_artifacts(run.info.run_id, "tasks.parquet", str(tmp_path))
    assert Path(back).read_bytes() == bytes(range(256)) * 500
    traces = TracingClient(bench.tracking.uri).search_traces(
        locations=[run.info.experiment_id], run_id=run.info.run_id
    )
    assert {trace.info.tags["mlflow.traceName"] for trace in traces} == {"a/1", "a/2"}
    assert all(len(trace.data.spans) == 1 for trace in traces)
    assert all(trace.info.assessments[0].value is True for trace in traces)


def test_what_has_only_generated_is_not_taken_for_finished_while_its_server_is_away(
    bench, tmp_path, empty_database
):
    database = tmp_path / "mlflow.db"
    shutil.copy(empty_database, database)
    with served.mlflow_server(database) as uri:
        bench.tracking = dataclasses.replace(bench.tracking, uri=uri)
        waits, judged = begin(bench.open(), None), begin(bench.open(), None, fingerprint="f2")
        for run in (waits, judged):
            run.log(tags={STAGE: GENERATED})
            run.finish("FINISHED")
        tags = {STAGE: JUDGED, "codejoule.fingerprint": "f3", GENERATED_AS: "f2"}
        bench.open().track(judged.run_id).log(tags=tags)
    bench.outbox.note_down()
    shutil.copy(empty_database, bench.outbox.folder / "mlflow.db")
    away = bench.open()
    assert away.away
    assert (away.find_finished("f1"), away.find_generated("f1")) == (None, waits.run_id)
    for fingerprint in ("f2", "f3"):
        assert away.find_finished(fingerprint) == judged.run_id
        assert away.find_generated(fingerprint) is None


@pytest.mark.slow
def test_verdicts_of_a_run_that_was_uploaded_reach_the_traces_that_it_has(
    bench, mlflow_server, tmp_path
):
    bench.outbox.note_down()
    run = begin(bench.open(), None)
    run.log_traces([dataclasses.replace(trace("a/1"), verdict=None)], model="starter")
    run.finish("FINISHED")
    mlflow_server.start()
    assert not upload(bench.outbox).failures
    (there,) = bench.there()
    assert there.info.run_id != run.run_id
    # Another machine, which knows the run by the server's id alone.
    elsewhere = dataclasses.replace(bench.tracking, dir=f"{tmp_path}/elsewhere")
    uploaded = prepare_store(elsewhere).track(there.info.run_id)
    uploaded.judge_traces([dataclasses.replace(RECORD, task_id="a/1", sample=0)])
    uploaded.log_traces([trace("a/1")], model="starter")
    (found,) = TracingClient(bench.tracking.uri).search_traces(
        locations=[there.info.experiment_id], run_id=there.info.run_id
    )
    assert found.info.assessments


@pytest.mark.slow
def test_run_that_loses_its_server_midway_is_kept_whole_and_uploaded_once(
    bench, mlflow_server, tmp_path, caplog
):
    mlflow_server.start()
    store = bench.open()
    sweep = store.start_sweep("sweep", [], {})
    run = begin(store, sweep)
    mlflow_server.kill()

    began_s = time.monotonic()
    record(run, tmp_path / "files")
    run.finish("FINISHED")
    assert time.monotonic() - began_s < 20
    assert f"job is kept in {bench.outbox.folder}, since the tracking server" in caplog.text
    assert "does not answer (connection refused); codejoule sync" in caplog.text

    # A later job of the sweep learns of it within two seconds, and is kept from the start.
    began_s = time.monotonic()
    later = bench.open()
    assert later.away
    assert time.monotonic() - began_s < 5
    assert later.find_finished("f1") == run.run_id
    other = begin(later, sweep, "other", "f2")
    record(other, tmp_path / "files")
    other.finish("FINISHED")
    bench.open().end_sweep(sweep, "FINISHED")
    assert bench.outbox.told().startswith(
        f"3 runs wait in {bench.outbox.folder} for {mlflow_server.uri}:"
    )

    mlflow_server.start()
    local = {each.known_as: each for each in bench.outbox.all_waiting()}
    done = upload(bench.outbox)
    assert not done.failures
    assert (done.runs, done.sweeps, done.files, done.traces) == (2, 1, 4, 4)
    again = upload(bench.outbox)
    assert (again.runs, again.sweeps, again.files) == (0, 0, 0)

    runs = {each.data.tags["mlflow.runName"]: each for each in bench.there()}
    assert len(bench.there()) == 3 == len(runs) == len(local)
    assert runs["sweep"].info.run_id == sweep
    assert runs["sweep"].info.status == "FINISHED"
    assert runs["job"].info.run_id == run.run_id
    for name in ("job", "other"):
        check_whole(bench, runs[name], tmp_path, parent=sweep)
    # Nothing of it is measured again, under the id that the server has for it.
    assert bench.open().find_finished("f2") == runs["other"].info.run_id
    assert bench.open().find_unfinished(other.run_id) is None
    assert not list((bench.outbox.folder / "artifacts").glob("*"))


@pytest.mark.slow
def test_sweep_that_begins_without_its_server_and_ends_with_it_is_one_sweep(
    bench, mlflow_server, tmp_path
):
    store = bench.open()
    assert store.away
    sweep = store.start_sweep("sweep", [], {})
    first = begin(store, sweep)
    record(first, tmp_path / "files")
    first.finish("FINISHED")

    mlflow_server.start()
    second = begin(bench.open(), sweep, "second", "f2")
    record(second, tmp_path / "files")
    second.finish("FINISHED")
    # What has ended is uploaded while the sweep goes on.
    assert upload(bench.outbox).under_way == ["sweep"]
    bench.open().end_sweep(sweep, "FINISHED")
    assert upload(bench.outbox).sweeps == 1
    assert bench.outbox.told() is None

    runs = {each.data.tags["mlflow.runName"]: each for each in bench.there()}
    assert len(bench.there()) == 3 == len(runs)
    parent = runs["sweep"].info.run_id
    for name in ("job", "second"):
        check_whole(bench, runs[name], tmp_path, parent=parent)
    assert runs["job"].info.start_time < runs["second"].info.start_time


class Interrupted(BaseException):
    """What an upload is broken off by."""


@pytest.mark.slow
def test_upload_that_is_broken_off_at_any_request_leaves_no_duplicate(
    bench, mlflow_server, tmp_path, monkeypatch
):
    store = bench.open()
    run = begin(store, store.start_sweep("sweep", [], {}))
    record(run, tmp_path / "files")
    run.finish("FINISHED")
    store.end_sweep(run_of_sweep(bench), "FINISHED")
    mlflow_server.start()

    request, left = requests.Session.request, [0]

    def broken_off(*args, **kwargs):
        answer = request(*args, **kwargs)
        left[0] -= 1
        if left[0] == 0:
            raise Interrupted
        return answer

    monkeypatch.setattr(requests.Session, "request", broken_off)
    tries = 0
    # The server does what it is asked each time, and this process never learns of it.
    while bench.outbox.told() is not None:
        tries += 1
        left[0] = 6 + tries * 5
        with contextlib.suppress(Interrupted):
            upload(bench.outbox)
    monkeypatch.undo()
    assert tries > 5

    runs = {each.data.tags["mlflow.runName"]: each for each in bench.there()}
    assert len(bench.there()) == 2 == len(runs)
    check_whole(bench, runs["job"], tmp_path, parent=runs["sweep"].info.run_id)


def run_of_sweep(bench: Bench) -> str:
    return min(bench.outbox.all_waiting(), key=lambda run: run_start(bench, run.run_id)).known_as


def run_start(bench: Bench, run_id: str) -> int:
    client = mlflow.tracking.MlflowClient(f"sqlite:///{bench.outbox.folder}/mlflow.db")
    return int(client.get_run(run_id).info.start_time)


@pytest.mark.slow
def test_two_uploads_at_once_make_every_run_once(bench, mlflow_server, tmp_path):
    store = bench.open()
    sweep = store.start_sweep("sweep", [], {})
    for number in range(3):
        run = begin(store, sweep, f"job{number}", f"f{number}")
        record(run, tmp_path / "files")
        run.finish("FINISHED")
    store.end_sweep(sweep, "FINISHED")
    mlflow_server.start()
    command = [sys.executable, "-m", "codejoule", "sync", "--tracking-dir", bench.tracking.dir]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = "".join(process.communicate(timeout=120)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert "uploaded and confirmed 3 jobs and 1 sweep (6 files" in said
    assert sorted(run.data.tags["mlflow.runName"] for run in bench.there()) == [
        "job0", "job1", "job2", "sweep",
    ]  # fmt: skip


@pytest.mark.slow
def test_sync_says_what_it_did_and_what_it_cannot(bench, mlflow_server, tmp_path, capsys):
    tracking = ["--tracking-dir", bench.tracking.dir]
    assert main(["sync", *tracking]) == 0
    assert capsys.readouterr().out == f"Nothing waits in {bench.tracking.dir}.\n"
    run = begin(bench.open(), None)
    assert main(["sync", *tracking]) == 2
    said = capsys.readouterr().err
    assert f"the tracking server {mlflow_server.uri} does not answer (connection refused)" in said
    assert f"nothing is lost: 1 run waits in {bench.outbox.folder}" in said
    mlflow_server.start()
    assert main(["sync", *tracking]) == 0
    assert "0 jobs and 0 sweeps (0 files, 0.0 MiB, 0 traces sent); still under way: job." in (
        capsys.readouterr().out
    )
    run.finish("FAILED")
    assert main(["sync", *tracking]) == 0
    assert "uploaded and confirmed 1 job and 0 sweeps" in capsys.readouterr().out
    (there,) = bench.there()
    assert there.info.status == "FAILED"
    # Its journal still names it by the id that it had here.
    assert bench.open().find_unfinished(run.run_id) == there.info.run_id


@pytest.mark.parametrize(
    ("status", "away"), [(401, False), (403, False), (500, False), (503, True)]
)
def test_refusal_is_an_error_and_an_outage_is_none(tmp_path, status, away, empty_database):
    class Answering(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"no")

        def do_POST(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as stub:
        threading.Thread(target=stub.serve_forever, args=[0.01], daemon=True).start()
        uri = f"http://127.0.0.1:{stub.server_port}"
        tracking = TrackingConfig(name=TrackingName.server, uri=uri, dir=f"{tmp_path}/mlruns")
        folder = Outbox(tracking.folder, uri).folder
        folder.mkdir(parents=True)
        shutil.copy(empty_database, folder)
        try:
            if away:
                assert prepare_store(tracking).away
            else:
                with pytest.raises(UserError, match=r"the tracking server cannot be used.*login"):
                    prepare_store(tracking)
        finally:
            stub.shutdown()
    assert Outbox(tracking.folder, uri).known_down is away
