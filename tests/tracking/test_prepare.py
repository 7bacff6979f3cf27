"""Stores that are ready, or say why not."""

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from mlflow.tracking import MlflowClient

from codejoule.config import ConfigError, UserError
from codejoule.config.schema import TrackingConfig, TrackingName
from codejoule.tracking import Outbox, prepare_store

PREPARE = """
import sys
from pathlib import Path
from codejoule.config.schema import TrackingConfig
from codejoule.tracking import Outbox, prepare_store

store = prepare_store(TrackingConfig(dir=f"{sys.argv[1]}/mlruns"))
run = store.start_run(name=sys.argv[2], parent_run_id=None, tags={}, params={"a": 1})
run.finish("FINISHED")
print(store.experiment_id)
"""


@pytest.mark.slow
def test_three_processes_may_use_a_fresh_store_at_once(tmp_path):
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PREPARE, str(tmp_path), f"run{i}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(3)
    ]
    outputs = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], outputs
    assert len({out for out, _ in outputs}) == 1
    # Quiet: no log lines, no links, no progress bars.
    assert [errors for _, errors in outputs] == ["", "", ""]
    assert {p.name for p in (tmp_path / "mlruns").iterdir()} == {
        "mlflow.db", ".lock", ".reserve", "processes",
    }  # fmt: skip


def test_default_store_is_below_the_project_with_absolute_addresses(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    store = prepare_store(TrackingConfig(experiment="mine", dir=f"{project}/mlruns"))
    assert store.uri == f"sqlite:///{project}/mlruns/mlflow.db"

    experiment = MlflowClient(store.uri).get_experiment_by_name("mine")
    assert experiment.artifact_location == f"file://{project}/mlruns/artifacts"
    again = prepare_store(TrackingConfig(experiment="mine", dir=f"{project}/mlruns"))
    assert again.experiment_id == store.experiment_id


def test_folder_with_a_space_works_and_a_percent_sign_is_refused(
    tmp_path, empty_database, monkeypatch
):
    # A path on the command line is relative to where the command was typed.
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my runs"
    folder.mkdir()
    shutil.copy(empty_database, folder)
    store = prepare_store(TrackingConfig(dir="my runs"))
    run = store.start_run(name="a", parent_run_id=None, tags={}, params={})
    (tmp_path / "note.txt").write_text("x")
    run.log(artifacts=[tmp_path / "note.txt"])
    assert (folder / "artifacts" / run.run_id / "artifacts" / "note.txt").read_text() == "x"
    with pytest.raises(ConfigError, match=r"tracking\.dir=.*100%.*choose another folder"):
        prepare_store(TrackingConfig(dir="100%"))


def test_leftover_of_a_killed_first_use_is_no_obstacle(tmp_path):
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db.new").write_bytes(b"half a database")
    store = prepare_store(TrackingConfig(dir=f"{tmp_path}/mlruns"))
    assert store.find_finished("none") is None


def test_folder_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "mlruns").write_text("a file, not a folder")
    with pytest.raises(UserError, match=r"tracking\.dir=.*cannot write there.*choose another"):
        prepare_store(TrackingConfig(dir=f"{tmp_path}/mlruns"))


def test_deleted_experiment_is_a_user_error(store, project):

    MlflowClient(store.uri).delete_experiment(store.experiment_id)
    with pytest.raises(UserError, match=r"tracking\.experiment=codejoule: .* deleted.*restore"):
        prepare_store(TrackingConfig(dir=f"{project}/mlruns"))


def test_moved_store_is_a_user_error(store, project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(project / "mlruns", elsewhere / "mlruns")
    with pytest.raises(UserError, match="moved or copied"):
        prepare_store(TrackingConfig(dir=f"{elsewhere}/mlruns"))


def test_server_that_does_not_answer_is_known_within_seconds(tmp_path, empty_database):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    config = TrackingConfig(name=TrackingName.server, uri=uri, dir=f"{tmp_path}/mlruns")
    folder = Outbox(config.folder, uri).folder
    folder.mkdir(parents=True)
    shutil.copy(empty_database, folder)
    started_s = time.monotonic()
    store = prepare_store(config)
    assert time.monotonic() - started_s < 20
    assert store.away
    assert store.uri.startswith(f"sqlite:///{tmp_path}/mlruns/outbox/127.0.0.1_")
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_server_that_refuses_is_told_with_its_reason(tmp_path):
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"error_code": "PERMISSION_DENIED", "message": "no entry"}).encode()
            self.send_response(403)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    try:
        config = TrackingConfig(
            name=TrackingName.server,
            uri=f"http://127.0.0.1:{server.server_port}",
            dir=f"{tmp_path}/mlruns",
        )
        with pytest.raises(UserError, match="no entry"):
            prepare_store(config)
    finally:
        server.shutdown()
        server.server_close()


def test_server_address_must_be_one(tmp_path):
    config = TrackingConfig(name=TrackingName.server, uri="mlruns")
    with pytest.raises(ConfigError, match=r"tracking\.uri=mlruns: not the address of a server"):
        prepare_store(config)


def test_opening_a_store_says_nothing(store, project, caplog, capfd):
    with caplog.at_level(logging.INFO):
        prepare_store(TrackingConfig(experiment="quiet", dir=f"{project}/mlruns"))
    assert capfd.readouterr() == ("", "")
