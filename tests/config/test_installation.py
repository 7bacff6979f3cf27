"""Where runs go by default, and what a child process needs to find codejoule."""

import os
import sys
from pathlib import Path

import pytest

from codejoule.config import default_store, home, installation, program, settle_home
from codejoule.config.schema import TrackingConfig


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("CODEJOULE_HOME", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("named", "place"),
    [(None, "."), ("", "."), ("runs", "runs"), ("/data", "/data"), ("~/runs", "user/runs")],
)
def test_runs_go_below_the_named_folder_or_else_the_current_one(
    named: str | None, place: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if named is not None:
        monkeypatch.setenv("CODEJOULE_HOME", named)
    assert home() == here / place
    assert default_store() == f"sqlite:///{here / place}/mlruns/mlflow.db"
    assert TrackingConfig().folder == here / place / "mlruns"
    settle_home()
    assert os.environ.get("CODEJOULE_HOME") == (None if named is None else str(here / place))


def test_a_store_that_is_named_goes_before(here: Path) -> None:
    assert TrackingConfig(dir="~/mine").folder == here / "user" / "mine"


@pytest.mark.parametrize(
    ("folder", "shown"), [("", ".venv/bin/codejoule"), ("elsewhere", "/.venv/bin/codejoule")]
)
def test_the_command_is_shown_as_this_shell_can_call_it(
    folder: str, shown: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = here / ".venv" / "bin" / "codejoule"
    script.parent.mkdir(parents=True)
    script.touch(mode=0o755)
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / folder)
    monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
    monkeypatch.setenv("PATH", "/nowhere")
    assert program().endswith(shown) and (program() == shown or folder)
    monkeypatch.setenv("PATH", str(script.parent))
    assert program() == "codejoule"


def test_a_child_finds_a_checkout_by_its_path_and_an_installed_package_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = str(Path(installation.__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", "/other")
    assert installation.python_path() == {"PYTHONPATH": f"{source}:/other"}
    monkeypatch.setattr(installation.site, "getsitepackages", lambda: [source])
    assert installation.python_path() == {}
