"""What is printed when a sweep, or a job by itself, has ended."""

import io
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from codejoule.analysis import load_runs
from codejoule.cli import main, summary
from codejoule.cli.summary import print_summary
from codejoule.common.display import Display
from codejoule.common.progress import told_to
from codejoule.config import UserError
from codejoule.config.schema import TrackingConfig, TrackingName
from codejoule.experiment.sweep import Outcome, State, Summary
from codejoule.tracking import prepare_store


def ended(*outcomes: Outcome, jobs: int | None = None, **tracking: object) -> Summary:
    return Summary(
        run_id=None,
        jobs=len(outcomes) if jobs is None else jobs,
        tracking=TrackingConfig(**tracking),
        outcomes=outcomes,
    )


def outcome(name: str, state: State, **facts: str) -> Outcome:
    return Outcome(name=name, state=state, **facts)


@pytest.fixture(autouse=True)
def activated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment is not activated, commands are shown with their path."""
    monkeypatch.setattr(summary, "program", lambda: "codejoule")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_database) -> Path:
    monkeypatch.setenv("CODEJOULE_HOME", str(tmp_path))
    return with_database(tmp_path)


def finished(project: Path, **tracking: object) -> Outcome:
    """A run in the store that `tracking` speaks of, as far as the summary looks at it."""
    store = prepare_store(TrackingConfig(**tracking))
    tags = {"codejoule.fingerprint": "1"}
    run = store.start_run(name="a", parent_run_id=None, tags=tags, params={})
    run.finish("FINISHED")
    return outcome("a", State.finished, run_id=run.run_id)


def test_each_reason_is_printed_once_with_all_that_failed_for_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_summary(
        ended(
            outcome("a", State.failed, error="no memory"),
            outcome("b", State.failed, error="no hub"),
            outcome("c", State.failed, error="no memory"),
        )
    )
    out, err = capsys.readouterr()
    assert err == "\nFAILED a, c: no memory\n\nFAILED b: no hub\n"
    assert out == "\n3 jobs: 0 finished, 3 failed: a, b, c.\n"


def test_nothing_comes_next_while_jobs_have_failed_or_are_missing(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "analyse", lambda *_: SimpleNamespace(groups=()))
    good, bad = finished(project), outcome("b", State.failed, error="no hub")
    for case in (ended(good, bad), ended(good, jobs=2), ended(bad)):
        print_summary(case)
        assert "Next" not in capsys.readouterr().out
    print_summary(ended(good))
    assert "Next: codejoule analyze (figure and report)." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("experiment", "elsewhere"),
    [("mine", False), ("it's two words", False), ("codejoule", True), ("two words", True)],
)
def test_the_next_command_shows_these_runs(
    experiment: str, elsewhere: bool, project: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    place = str(project / "else where") if elsewhere else None
    if place:
        # Copied, for making a database takes a second.
        shutil.copytree(project / "mlruns", place)
    run = finished(project, experiment=experiment, dir=place)
    with monkeypatch.context() as silent:
        silent.setattr(summary, "analyse", lambda *_: SimpleNamespace(groups=()))
        print_summary(ended(run, experiment=experiment, dir=place))
    said = capsys.readouterr().out
    command = shlex.split(said.partition("Next: ")[2].partition(" (figure")[0])
    assert command[:2] == ["codejoule", "analyze"]
    shown: list[str] = []

    def loaded(uri: str, name: str, **more: object) -> None:
        shown.extend(load_runs(uri, name).frame["run_id"])
        raise UserError("seen enough")

    monkeypatch.setattr("codejoule.analysis.load_runs", loaded)
    assert main(command[1:]) == 2
    assert shown == [run.run_id]


def test_a_servers_runs_are_shown_from_the_server() -> None:
    class Server:
        uri, experiment = "http://host:5000", "codejoule"

    tracking = TrackingConfig(name=TrackingName.server, uri="http://host:5000")
    said = summary._next(Server(), tracking)  # type: ignore[arg-type]
    assert said == "codejoule analyze --tracking-uri http://host:5000 (figure and report)"


@pytest.mark.parametrize(
    ("elsewhere", "serve"),
    [(False, "codejoule ui)"), (True, "codejoule ui --tracking-uri sqlite:///")],
)
def test_the_link_opens_the_runs_and_says_who_serves_it(
    elsewhere: bool, serve: str, project: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    place = str(project / "elsewhere") if elsewhere else None
    if place:
        shutil.copytree(project / "mlruns", place)
    run = finished(project, dir=place)
    monkeypatch.setattr(summary, "analyse", lambda *_: SimpleNamespace(groups=()))
    print_summary(ended(run, dir=place))
    (line,) = [s for s in capsys.readouterr().out.splitlines() if s.startswith("Runs in MLflow: ")]
    store = prepare_store(TrackingConfig(dir=place))
    query = "workflowType=machine_learning&viewStateShareKey=codejoule"
    page = f"#/experiments/{store.experiment_id}/runs?{query}"
    assert line.startswith(f"Runs in MLflow: http://127.0.0.1:5000/{page} (served by: {serve}")


def test_the_link_to_a_server_is_its_own_address() -> None:
    class Server:
        uri, experiment_id = "http://host:5000/", "3"

    tracking = TrackingConfig(name=TrackingName.server, uri="http://host:5000/")
    said = summary._link(Server(), tracking)  # type: ignore[arg-type]
    query = "workflowType=machine_learning&viewStateShareKey=codejoule"
    assert said == f"http://host:5000/#/experiments/3/runs?{query}"


def test_the_last_jobs_title_and_time_left_are_not_shown_beside_the_comparison() -> None:
    display = Display(io.StringIO())
    display.heading("2/2 starter-none-b8")
    display.left = lambda: "about 3 min left"
    with told_to(display):
        print_summary(ended(outcome("a", State.failed, error="no memory")))
    assert (display._heading, display.left()) == ("", "")
