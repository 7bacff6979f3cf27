"""The server for a team: PostgreSQL, logins, and the same data when it is started again."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from codejoule.cli import main, server
from codejoule.cli.server import postgres
from codejoule.cli.server.account import Account
from codejoule.config import UserError


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_port_that_is_in_use_is_told(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["server", "--dir", str(tmp_path), "--port", str(port)]) == 2
    assert f"--port {port}: cannot listen there" in capsys.readouterr().err


def test_missing_library_is_told_with_its_extra(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    assert main(["server", "--dir", str(tmp_path)]) == 2
    assert "codejoule server needs psycopg: pip install 'codejoule[server]'" in (
        capsys.readouterr().err
    )


def test_missing_postgresql_is_told_with_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgres, "_PLACES", ())
    with (
        pytest.raises(UserError, match=r"PostgreSQL is not installed.*apt-get install postgresql"),
        postgres.run_postgres(tmp_path, Account.find(None), ("mlflow",)),
    ):
        pass
    # Data of a version that is not there are not touched.
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("9\n")
    with (
        pytest.raises(UserError, match=r"PostgreSQL 9, which made .*apt-get install postgresql-9"),
        postgres.run_postgres(tmp_path, Account.find(None), ("mlflow",)),
    ):
        pass


def test_only_root_chooses_the_account():
    if os.geteuid() == 0:
        with pytest.raises(UserError, match=r"no ordinary account nobody-of-that-name"):
            Account.find("nobody-of-that-name")
    else:
        with pytest.raises(UserError, match=r"--user nobody: only root can choose the account"):
            Account.find("nobody")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    not shutil.which("initdb") and not list(Path("/usr/lib").glob("postgresql/*/bin/initdb")),
    reason="PostgreSQL is not installed",
)
def test_server_keeps_its_data_and_its_logins(monkeypatch):
    # Not below pytest's own folder, which is root's alone.
    folder = Path("/tmp") / f"codejoule-server-{os.getpid()}"
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "codejoule", "server", "--dir", str(folder)]
    try:
        for started in (1, 2):
            process = subprocess.Popen(
                [*command, "--port", str(port), "--workers", "1"], stdout=subprocess.PIPE, text=True
            )
            assert process.stdout is not None
            assert f"MLflow serves {uri}" in process.stdout.readline()
            monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
            with pytest.raises(MlflowException, match="401"):
                MlflowClient(uri).search_experiments()
            password = (folder / "admin-password").read_text()
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
            client = MlflowClient(uri)
            if started == 1:
                run = client.create_run("0")
                client.log_text(run.info.run_id, "kept", "note.txt")
            back = client.download_artifacts(run.info.run_id, "note.txt")
            assert Path(back).read_text() == "kept"
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            time.sleep(0.5)
            assert not _of(str(folder)), "nothing runs on"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _of(words: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_text()
        except OSError:
            continue
        if words in command and int(entry.name) != os.getpid():
            found.append(command)
    return found
