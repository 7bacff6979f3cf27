"""``hydra/launcher=joblib``: several jobs of a sweep at once, each in a worker process."""

import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.utils import JobReturn, JobStatus

from codejoule.config import UserError, conf_folder
from codejoule.config.compose import register_schemas
from codejoule.measurement import Gpu
from hydra_plugins.codejoule_launchers import joblib
from tests.experiment.job import children_running, run_main, runs_of, start_main
from tests.warm import Job

register_schemas()
TWO_AT_ONCE = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


# A worker knows neither this file nor the test's libraries: what it runs is in the standard one.
def returning(value: int) -> JobReturn:
    return JobReturn(status=JobStatus.COMPLETED, _return_value=value)


@dataclass
class Quick:
    """A job without a model."""

    number: int
    folder: Path
    work: Callable[[Path, int], Any]

    def run(self, job_id: str) -> JobReturn:
        (self.folder / f"{self.number}.pid").write_text(str(os.getpid()))
        return returning(self.work(self.folder, self.number))


@pytest.fixture
def run_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Runs such jobs, two at once; what each returned, or the error of its worker."""
    from cloudpickle import register_pickle_by_value

    register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(joblib, "_worked", lambda returned: True)
    monkeypatch.setattr(joblib, "_lost", lambda job, error: returning(error))

    def run(jobs: int, work: Callable[[Path, int], Any]) -> list[Any]:
        quick: list[Any] = [Quick(number, tmp_path, work) for number in range(jobs)]
        return [returned.return_value for returned in joblib._Jobs(quick, 2).run()]

    return run


def test_jobs_run_at_the_same_time_and_return_in_their_order(run_quick: Any) -> None:
    def meet(folder: Path, number: int) -> int:
        import time

        (folder / str(number)).touch()
        until_s = time.monotonic() + 30
        while not (folder / str(1 - number % 2)).exists() and time.monotonic() < until_s:
            time.sleep(0.01)
        return number if time.monotonic() < until_s else -1

    assert run_quick(3, meet) == [0, 1, 2]


def test_a_worker_that_dies_takes_its_own_job_along_and_no_other(run_quick: Any) -> None:
    def die(folder: Path, number: int) -> int:
        import os
        import signal

        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    first, second, third, fourth = run_quick(4, die)
    assert (first, third, fourth) == (0, 2, 3)
    assert "SIGKILL" in str(second)


@pytest.mark.slow
@pytest.mark.parametrize("stubborn", [False, True])
def test_an_interrupt_reaches_the_jobs_at_work_and_none_begins_after_it(
    run_quick: Any, tmp_path: Path, stubborn: bool
) -> None:
    def work(folder: Path, number: int) -> int:
        import time

        told = 0
        until_s = time.monotonic() + 60
        while time.monotonic() < until_s:
            try:
                (folder / f"{number}.ready").touch()
                time.sleep(0.05)
            except KeyboardInterrupt:
                told += 1
                (folder / f"{number}.told").write_text(str(told))
                if not stubborn:
                    raise
        return number

    def interrupt() -> None:
        for _ in range(3 if stubborn else 1):
            while len(list(tmp_path.glob("*.ready"))) < 2:
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1.0)

    with ThreadPoolExecutor() as pool:
        pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_quick(3, work)
    told = {file.stem: file.read_text() for file in tmp_path.glob("*.told")}
    assert told == dict.fromkeys("01", "2" if stubborn else "1"), "the third ends them"
    for file in tmp_path.glob("*.pid"):
        assert not Path(f"/proc/{file.read_text()}").exists()


@pytest.mark.parametrize(
    ("visible", "overrides", "at_once"),
    [
        (4, [], 4),
        (4, ["gpus=2"], 2),
        (1, ["gpus=2"], 1),
        (4, ["device=cpu"], 1),
        (0, [], 1),
    ],
)
def test_there_is_a_job_for_each_visible_gpu_and_one_on_the_cpu(
    visible: int, overrides: list[str], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Gpu(
        index=0, name="H200", uuid="GPU-0", memory_bytes=1, driver="1", energy_counter=True,
        mig=False,
    )  # fmt: skip
    cards = (card,) * visible
    monkeypatch.setattr("codejoule.measurement.detect_gpus", lambda: (cards, (card,), None))
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("config", overrides=["hydra/launcher=joblib", *overrides])
    assert joblib._jobs_at_once(config) == at_once


@pytest.mark.parametrize("n_jobs", [0, -1])
def test_a_number_of_jobs_that_is_none_is_an_error(n_jobs: int) -> None:
    launcher: Any = joblib.JoblibLauncher(n_jobs)
    with pytest.raises(UserError, match=f"n_jobs={n_jobs}: must be at least 1"):
        launcher.setup(hydra_context=None, task_function=None, config=None)


def results(folder: Path, experiment: str) -> dict[str, tuple[str, str]]:
    """Samples and verdicts of each run, as its artifacts in the store have them."""
    found = {}
    for run in runs_of(experiment, folder):
        if run.data.tags["codejoule.kind"] == "run":
            artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
            verdicts = (artifacts / "eval_results.json").read_text(encoding="utf-8")
            found[run.info.run_name] = (
                (artifacts / "samples.jsonl").read_text(encoding="utf-8"),
                verdicts.partition('"eval"')[2],
            )
    return found


@pytest.mark.slow
def test_a_sweep_is_that_of_the_basic_launcher(store: Path) -> None:
    jobs = ("-m", "quant=none,gptq4", "batch=b1,b8", "suite.limit=6")
    ends = {}
    for name, launcher in (("basic", ()), ("joblib", TWO_AT_ONCE)):
        done = run_main(store, *jobs, *launcher, f"tracking.experiment={name}")
        assert done.returncode == 0, done.stderr
        assert "4 jobs: 4 finished." in done.stdout
        runs = runs_of(name, store)
        (parent,) = (run for run in runs if run.data.tags["codejoule.kind"] == "sweep")
        children = [run for run in runs if run is not parent]
        assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
        assert {run.info.status for run in runs} == {"FINISHED"}
        ends[name] = {
            (
                run.info.run_name,
                run.data.tags["codejoule.fingerprint"],
                run.data.metrics["pass_at_1"],
            )
            for run in children
        }
    assert ends["basic"] == ends["joblib"]
    assert len(results(store, "basic")) == 4
    assert results(store, "basic") == results(store, "joblib")
    assert "2 jobs at once (hydra.launcher.n_jobs)." in done.stderr
    assert "4/4 starter-gptq4-b8: " in done.stderr
    again = run_main(store, *jobs, *TWO_AT_ONCE, "tracking.experiment=joblib")
    assert (again.returncode, "4 had finished before" in again.stdout) == (0, True)


def wait_for_batches(store: Path, job: Job, runs: int) -> None:
    """Until so many runs have generated something."""
    until_s = time.monotonic() + 150
    while job.poll() is None and time.monotonic() < until_s:
        journals = store.glob("mlruns/journals/*/*/journal.jsonl")
        if sum('"batch"' in journal.read_text() for journal in journals) >= runs:
            return
        time.sleep(0.02)
    raise AssertionError(f"not so far in time; it ended with {job.poll()}")


def workers_of(job: Job) -> list[int]:
    return children_running(job.pid, "popen_loky_posix")


@pytest.mark.slow
def test_a_killed_worker_fails_its_job_alone_and_the_same_command_continues_it(
    store: Path,
) -> None:
    jobs = ("-m", "batch=b1,b4,b8", "suite=starter_large", "suite.limit=128", "evaluator=none")
    job = start_main(store, *jobs, *TWO_AT_ONCE)
    wait_for_batches(store, job, 2)
    killed, _ = workers_of(job)
    os.kill(killed, signal.SIGKILL)
    done = job.completed(timeout=200)
    assert done.returncode == 1
    assert "its process died with SIGKILL(-9) (the kernel kills with SIGKILL when" in done.stderr
    assert "3 jobs: 2 finished, 1 failed: starter-none-b" in done.stdout
    status = sorted(run.info.status for run in runs_of("codejoule", store))
    assert status == ["FAILED", "FINISHED", "FINISHED", "KILLED"], "the sweep, and its jobs"
    again = run_main(store, *jobs, *TWO_AT_ONCE)
    assert again.returncode == 0, again.stderr
    assert "3 jobs: 1 finished, 2 had finished before." in again.stdout
    runs = [run for run in runs_of("codejoule", store) if "energy_generation_j" in run.data.metrics]
    assert sorted(run.data.tags["codejoule.sessions"] for run in runs) == ["1", "1", "2"]


@pytest.mark.slow
def test_a_sweep_that_is_interrupted_stops_its_jobs_and_continues_later(store: Path) -> None:
    jobs = ("-m", "batch=b1,b4,b8", "suite=starter_large", "suite.limit=128", "evaluator=none")
    job = start_main(store, *jobs, *TWO_AT_ONCE)
    wait_for_batches(store, job, 2)
    workers = workers_of(job)
    job.send_signal(signal.SIGINT)
    done = job.completed(timeout=60)
    assert done.returncode == 130
    assert "Interrupted: no further job begins, and 2 at work shall stop." in done.stderr
    assert "the same command continues where this stopped" in done.stderr
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    status = [run.info.status for run in runs_of("codejoule", store)]
    assert status == ["KILLED", "KILLED", "KILLED"]
    again = run_main(store, *jobs, *TWO_AT_ONCE)
    assert "3 jobs: 3 finished." in again.stdout


@pytest.mark.slow
def test_workers_end_with_a_sweep_that_is_killed(store: Path) -> None:
    job = start_main(store, "-m", "batch=b1,b4", "suite=starter_large", "suite.limit=128",
                     "evaluator=none", *TWO_AT_ONCE)  # fmt: skip
    wait_for_batches(store, job, 1)
    workers = workers_of(job)
    assert len(workers) == 2
    job.send_signal(signal.SIGKILL)
    until_s = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < until_s, "a worker outlives the sweep"
        time.sleep(0.05)
