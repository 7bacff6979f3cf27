"""kill -9 at any point, start again: as if nothing had happened."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.experiment.job import entries_of, left_by, run_main, start_main

# Each batch prints nothing, so the points are recognised by what is on disk.
OVERRIDES = ("batch=b4", "suite.limit=24", "generation=sample", "generation.n_samples=2")
BATCHES = 12
SAMPLES = 48


def entries(folder: Path) -> list[str]:
    """Kinds of the journal's whole lines, in order; none before there is a journal."""
    return [entry["kind"] for entry in entries_of(folder)]


POINTS: dict[str, Callable[[Path], bool]] = {
    "before the model is loaded": lambda f: bool(list(f.glob("mlruns/journals/*/*/run_id"))),
    "before the first batch": lambda f: "load" in entries(f),
    "in an early batch": lambda f: entries(f).count("batch") >= 2,
    "in a late batch": lambda f: entries(f).count("batch") >= BATCHES - 3,
    "while judging": lambda f: entries(f).count("verdicts") >= 5,
    "while results are written": lambda f: any(f.glob("mlruns/journals/*/*/artifacts/*")),
}


def start_and_kill(folder: Path, reached: Callable[[Path], bool]) -> None:
    """Start the run, and kill it (whole process group) as soon as the point is reached."""
    process = start_main(folder, *OVERRIDES, new_session=True)
    deadline = time.monotonic() + 120
    while not reached(folder) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    assert process.poll() is None, "the run ended before the point was reached"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def outcome(folder: Path) -> tuple[list[dict[str, str]], dict[str, list[str]]]:
    """Samples and verdicts of the only finished run."""
    (samples,) = left_by("codejoule", folder, "samples.jsonl")
    results = json.loads((samples.parent / "eval_results.json").read_text(encoding="utf-8"))
    verdicts = {task: [row["status"] for row in rows] for task, rows in results["eval"].items()}
    return [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()], verdicts


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, with_database: Callable[[Path], Path]
) -> Path:
    folder = with_database(tmp_path_factory.mktemp("whole"))
    done = run_main(folder, *OVERRIDES)
    assert done.returncode == 0, done.stderr
    return folder


def check_same(folder: Path, uninterrupted: Path) -> None:
    samples, verdicts = outcome(folder)
    expected_samples, expected_verdicts = outcome(uninterrupted)
    assert samples == expected_samples
    assert verdicts == expected_verdicts
    assert entries(folder).count("batch") == BATCHES, "no batch missing, none twice"
    assert entries(folder).count("verdicts") == SAMPLES, "no verdict missing, none twice"
    assert not list(folder.glob("mlruns/journals/*/*/")), "a finished run leaves no journal"


@pytest.mark.slow
def test_a_run_killed_at_every_point_in_turn_ends_like_one_never_killed(
    uninterrupted: Path, store: Path
) -> None:
    for reached in POINTS.values():
        start_and_kill(store, reached)
    done = run_main(store, *OVERRIDES)
    assert done.returncode == 0, done.stderr
    check_same(store, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_once_ends_like_one_never_killed(
    point: str, uninterrupted: Path, store: Path
) -> None:
    start_and_kill(store, POINTS[point])
    done = run_main(store, *OVERRIDES)
    assert done.returncode == 0, done.stderr
    check_same(store, uninterrupted)
