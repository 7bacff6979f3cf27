"""Whole runs with ``engine=vllm`` around a stand-in for it, and what becomes of one that is killed."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codejoule.config import UserError
from codejoule.config.compose import compose_sweep
from codejoule.domain.engines import EngineName
from codejoule.experiment.plan import loaded_quant
from codejoule.generation import engine_class
from codejoule.models import check_model_config
from tests import warm
from tests.experiment.job import ROOT, children_running, entries_of, run_main, runs_of, start_main

FAKE = Path(__file__).parents[1] / "generation" / "fake_vllm"
TASKS = 24
OVERRIDES = (
    "engine=vllm", f"engine.python={sys.executable}", "engine.window_tasks=4", "batch=b4",
    f"suite.limit={TASKS}", "evaluator=none",
)  # fmt: skip


def environment(**wrong: float) -> dict[str, str]:
    letters = list(range(40, 66))
    return {"PYTHONPATH": str(FAKE), "FAKE_VLLM": json.dumps({"letters": letters, **wrong})}


def windows_done(folder: Path) -> list[int]:
    """How many sequences ended in each window."""
    entries = entries_of(folder)
    return [len(e["payload"]["completions"]) for e in entries if e["kind"] == "batch"]


def wait_for(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def process_of_vllm(job: int) -> int | None:
    """The child of `job` that runs the engine's worker."""
    return next(iter(children_running(job, "vllm/worker.py")), None)


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


@contextmanager
def half_done(folder: Path) -> Iterator[tuple[warm.Job, int]]:
    """A run of which some windows are done, and the process of its vLLM."""
    job = start_main(folder, *OVERRIDES, new_session=True, **environment(step_s=0.005))
    try:
        wait_for(lambda: len(windows_done(folder)) >= 2 or job.poll() is not None)
        vllm = process_of_vllm(job.pid)
        assert job.poll() is None and vllm is not None
        yield job, vllm
    finally:
        job.send_signal(signal.SIGKILL)


def check_continued(folder: Path) -> None:
    """The same command, given again, decodes what is left, and ends as if nothing had been."""
    done_before = sum(windows_done(folder))
    assert 8 <= done_before < TASKS
    done = run_main(folder, *OVERRIDES, **environment())
    assert done.returncode == 0, done.stderr
    assert f"continues: {done_before} of {TASKS} sequences were done before" in done.stderr
    assert sum(windows_done(folder)) == TASKS
    (run,) = runs_of("codejoule", folder)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["tasks"] == TASKS
    assert run.data.metrics["memory_peak_bytes"] > 0


@pytest.fixture
def folder(tmp_path: Path, with_database: Callable[[Path], Path]) -> Path:
    return with_database(tmp_path)


def test_a_sweep_that_has_no_vllm_says_so_before_its_first_job(tmp_path: Path) -> None:
    missing = {"CODEJOULE_VLLM_PYTHON": str(tmp_path / "nothing")}
    done = run_main(tmp_path, "-m", "engine=generate,vllm", "quant=none,gptq4", **missing)
    assert done.returncode == 1
    assert "nothing cannot be started (No such file or directory)" in done.stderr
    assert "codejoule env vllm" in done.stderr and "(in 2 of 4 jobs)" in done.stderr
    assert not (tmp_path / "mlruns" / "mlflow.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["frontier", "engines"])
def test_the_presets_can_be_had_without_vllm(
    preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEJOULE_VLLM_PYTHON", str(tmp_path / "nothing"))
    file = ROOT / "conf" / "experiment" / f"{preset}.yaml"
    comment = next(line for line in file.read_text().splitlines() if " engine=" in line)
    command = comment.partition("`codejoule run ")[2].partition("`")[0]
    few = ["model=qwen_0_5b", "batch=b1"]
    for experiment in compose_sweep([*command.split(), *few]):
        check_model_config(experiment.model, loaded_quant(experiment))
        engine_class(experiment.engine.name).check(experiment.engine)
    engines = [e.engine for e in compose_sweep([f"+experiment={preset}", "quant=none", *few])]
    (vllm,) = [engine for engine in engines if engine.name is EngineName.vllm]
    with pytest.raises(UserError, match="codejoule env vllm"):
        engine_class(vllm.name).check(vllm)


@pytest.mark.slow
def test_a_killed_vllm_is_told_and_the_same_command_continues(folder: Path) -> None:
    with half_done(folder) as (job, vllm):
        os.kill(vllm, signal.SIGKILL)
        done = job.completed(timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "engine=vllm: vLLM gave up: its process ended with status -9" in done.stderr
    assert "run the same command again, which continues after the windows that are" in done.stderr
    assert "loading weights of the fake" in done.stderr
    (run,) = runs_of("codejoule", folder)
    assert run.info.status == "FAILED"
    check_continued(folder)


@pytest.mark.slow
def test_vllm_ends_with_a_killed_run_which_continues(folder: Path) -> None:
    with half_done(folder) as (job, vllm):
        os.kill(job.pid, signal.SIGKILL)
        job.wait(60)
        wait_for(lambda: is_gone(vllm))
    check_continued(folder)


@pytest.mark.slow
def test_an_interrupt_ends_the_run_and_vllm(folder: Path) -> None:
    with half_done(folder) as (job, vllm):
        os.killpg(job.pid, signal.SIGINT)
        done = job.completed(timeout=60)
        wait_for(lambda: is_gone(vllm))
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    (run,) = runs_of("codejoule", folder)
    assert run.info.status == "KILLED"
    check_continued(folder)
