"""Which store and which port ``codejoule ui`` takes."""

import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from codejoule.cli import main, ui


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that would start MLflow's server."""
    started: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        started.append(command)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(ui, "subprocess", SimpleNamespace(run=run))
    return started


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CODEJOULE_HOME", str(tmp_path))
    return tmp_path


def test_a_busy_port_is_replaced_by_the_next_free_one(
    home: Path, served: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "mlruns").mkdir()
    (home / "mlruns" / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["ui", "--port", str(port)]) == 0
    (command,) = served
    got = int(command[-1])
    assert port < got
    assert f"sqlite:///{home}/mlruns/mlflow.db" in command
    out = capsys.readouterr().out
    assert f"Port {port} is in use; taking {got}." in out and f"http://127.0.0.1:{got}" in out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "there are no runs yet"),
        (("--port", "0"), "--port 0: must lie between 1 and 65535"),
        (("--tracking-uri", "http://host:5000"), "this server shows its pages itself"),
    ],
)
def test_what_cannot_be_shown_is_told(
    arguments: tuple[str, ...], text: str, home: Path, served: list[list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if "--port" in arguments:
        (home / "mlruns").mkdir()
        (home / "mlruns" / "mlflow.db").touch()
    assert main(["ui", *arguments]) == 2
    assert text in capsys.readouterr().err
    assert served == []
