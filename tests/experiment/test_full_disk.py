"""A disk that fills up: one sentence wherever it happens, and nothing half written."""

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codejoule.analysis import load_runs
from codejoule.cli import main as codejoule
from codejoule.config import UserError
from codejoule.config.schema import TrackingConfig
from codejoule.domain import EnergySource, PowerSample, Status, Verdict
from codejoule.evaluation import VerdictLog, write_eval_results, write_pass_at_k, write_samples
from codejoule.experiment.sweep import Outcome, State
from codejoule.report import log_report
from codejoule.thesis.command import write_csv
from codejoule.tracking import (
    Journal,
    power_figure,
    prepare_store,
    write_power_parquet,
    write_tasks_parquet,
)
from tests.experiment.job import run_main, runs_of

POWER = [PowerSample(time_s=float(s), device="gpu:0", power_w=80.0) for s in range(9)]
VERDICT = Verdict(
    task_id="a", sample=0, status=Status.passed, reason="", evaluation_s=1.0, evaluation_cpu_s=1.0,
)  # fmt: skip
WRITERS: dict[str, Callable[[Path], object]] = {
    "outcome.json": lambda f: Outcome(name="a", state=State.finished).save(f.parent),
    "tasks.parquet": lambda f: write_tasks_parquet([], f),
    "power.parquet": lambda f: write_power_parquet(POWER, f),
    "power.svg": lambda f: power_figure(POWER, f, source=EnergySource.nvml),
    "samples.jsonl.gz": lambda f: write_samples(f, [{"task_id": "a", "solution": "b"}]),
    "eval_results.json": lambda f: write_eval_results(f, [VERDICT], ["b"]),
    "pass_at_k.json": lambda f: write_pass_at_k(f, [VERDICT]),
    "table.csv": lambda f: write_csv(f, [VERDICT]),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_result_that_the_disk_does_not_take_is_told_and_not_half_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("codejoule.config.writing.os.fsync", fail)
    with pytest.raises(UserError, match=rf"{name}: cannot be written: the disk is full \(.* free"):
        WRITERS[name](tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"only root can mount a small disk: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, *, leaving_bytes: int = 0) -> Path:
    stats = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(b"x" * (stats.f_bavail * stats.f_bsize - leaving_bytes))
    return filler


def test_logs_and_the_store_tell_of_a_full_disk_and_go_on_when_it_has_room(
    small_disk: Path, with_database: Callable[[Path], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    store = prepare_store(TrackingConfig(dir=f"{with_database(small_disk)}/mlruns"))
    run = store.start_run(name="a", parent_run_id=None, tags={}, params={})
    page = small_disk / "index.html"
    page.write_text("x" * 10_000)
    full = r"the disk is full \(0\.0 MiB are free in .*start the same command again"
    with Journal(small_disk / "journal") as journal, VerdictLog(small_disk / "v.jsonl") as log:
        filler = fill(small_disk)
        long = {"text": "x" * 10_000}
        for write in (
            lambda: journal.append_payload("window", long),
            lambda: [log.add(str(n), VERDICT) for n in range(100)],
            lambda: run.log(tags={"note": "x" * 7000}),
            lambda: run.log(artifacts=[page]),
            lambda: store.start_run(name="b", parent_run_id=None, tags={}, params=long),
        ):
            with pytest.raises(UserError, match=full) as told:
                write()
            assert str(small_disk) in str(told.value) and "\n" not in str(told.value)
        run.finish("FAILED")  # in room that was kept for it
        filler.unlink()
        journal.append_payload("window", long)
        run.log(artifacts=[page])
        run.finish("FINISHED")
    loaded = load_runs(store.uri, store.experiment)
    fill(small_disk)
    with pytest.raises(UserError, match=full):
        log_report(loaded, page)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_command_whose_results_do_not_fit_says_so(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(small_disk)
    out = small_disk / "out"
    assert codejoule(["thesis", "tables", "--out", str(out)]) == 2
    assert "the disk is full" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("leaving_bytes", [100_000, 250_000])
def test_a_sweep_says_why_its_jobs_failed_and_is_closed(
    small_disk: Path, with_database: Callable[[Path], Path], leaving_bytes: int
) -> None:
    """With little room a run's configuration does not fit, with more its artifacts do not."""
    with_database(small_disk)
    prepare_store(TrackingConfig(dir=f"{small_disk}/mlruns"))
    filler = fill(small_disk, leaving_bytes=leaving_bytes)
    done = run_main(small_disk, "-m", "batch=b8,b4", "suite.limit=4")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "the disk is full (0." in done.stderr and f" MiB are free in {small_disk}" in done.stderr
    filler.unlink()
    for file in small_disk.glob("multirun/**/outcome.json"):
        assert json.loads(file.read_text())["state"] == "failed"
    statuses = [run.info.status for run in runs_of("codejoule", small_disk)]
    assert set(statuses) == {"FAILED"}, statuses
