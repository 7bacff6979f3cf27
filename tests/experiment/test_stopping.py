"""A stop that is asked for: the first time what is under way is finished, the second time not."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codejoule.domain import EnergyScope, EnergySource, Status, Verdict
from codejoule.experiment import evaluation_stage, stopping
from codejoule.experiment.evaluation_stage import _Slices, evaluate
from codejoule.experiment.generation_stage import generate
from codejoule.experiment.plan import Plan
from codejoule.experiment.records import read_judgement, read_results
from codejoule.measurement import Meter
from codejoule.measurement.counter import CumulativeCounter
from codejoule.tracking import Journal
from codejoule.tracking.entries import Batch, Entry, Judged
from tests.experiment.job import run_main, runs_of
from tests.experiment.test_engines import plan_for  # noqa: F401
from tests.experiment.test_isolation import child_of, children_of, decoding


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process of its own, whatever earlier tests have left in this one."""
    monkeypatch.setattr(stopping, "_state", stopping._State())
    before = {
        number: signal.signal(number, usual)
        for number, usual in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGTERM, signal.SIG_DFL),
        )
    }
    with stopping.listening():
        yield
    for number, handler in before.items():
        signal.signal(number, handler)


def signalled(number: signal.Signals = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_work_ends_at_once_where_nothing_is_under_way(number: signal.Signals) -> None:
    with pytest.raises(stopping.Stopped, match=f"stopped by {number.name}"):
        signalled(number)
    assert stopping.asked() == number.name


@pytest.mark.usefixtures("listening")
def test_what_is_under_way_is_finished_unless_a_stop_is_asked_for_twice() -> None:
    with stopping.finishing():
        signalled()
        assert stopping.asked() == "SIGINT"
        with pytest.raises(stopping.Stopped):
            stopping.check()
        with pytest.raises(KeyboardInterrupt) as second:
            signalled()
    assert not isinstance(second.value, stopping.Stopped)


@pytest.mark.usefixtures("listening")
def test_who_works_for_this_process_is_told_each_time() -> None:
    orders: list[str] = []
    with stopping.handing_on(lambda: orders.append("stop")):
        signalled()
        assert orders == ["stop"]
        with pytest.raises(KeyboardInterrupt):
            signalled()
    assert orders == ["stop", "stop"]


def test_signals_mean_what_they_meant_before_once_nobody_listens() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stopping.listening(), stopping.listening():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_launchers_own_handler_stays() -> None:
    before = signal.signal(signal.SIGTERM, handler := lambda *_: None)
    try:
        with stopping.listening():
            assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture
def stopped_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Entry], int], None]:
    """Has a stop asked for while the entry of that kind and number is written."""

    def at(kind: type[Entry], number: int) -> None:
        append = Journal.append

        def asking(journal: Journal, entry: Entry) -> None:
            append(journal, entry)
            if isinstance(entry, kind) and len(journal.entries(kind)) == number:
                signalled()

        monkeypatch.setattr(Journal, "append", asking)

    return at


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("engine", ["generate", "static", "graph", "continuous"])
def test_every_engine_stops_after_a_window_and_continues_there(
    engine: str,
    plan_for: Callable[..., Plan],  # noqa: F811
    stopped_at: Callable[[type[Entry], int], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("codejoule.measurement.meter.SHORTEST_READ_SLICE_S", 0.001)
    windows = ["engine.window_tasks=3"] if engine in ("graph", "continuous") else []
    plan = plan_for(f"engine={engine}", "batch.size=3", "suite.limit=24", *windows)
    stopped_at(Batch, 2)
    with pytest.raises(stopping.Stopped):
        generate(plan, tmp_path)
    monkeypatch.undo()
    stopping._state.asked = None
    kept = list(read_results(tmp_path).batches)
    assert 2 <= len(kept) <= 4, "what had ended by then, and no more"
    generate(plan, tmp_path)
    batches = read_results(tmp_path).batches
    assert list(batches[: len(kept)]) == kept
    done = sorted(c.task_id for entry in batches for c in entry.completions)
    assert done == sorted(task.task_id for task in plan.suite.tasks)


@pytest.mark.usefixtures("listening")
def test_judging_stops_with_its_verdicts_kept(
    plan_for: Callable[..., Plan],  # noqa: F811
    stopped_at: Callable[[type[Entry], int], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    plan = plan_for("batch=b8")
    generate(plan, tmp_path)
    stopped_at(Judged, 3)
    with pytest.raises(stopping.Stopped):
        evaluate(plan, tmp_path, name="stopped")
    monkeypatch.undo()
    stopping._state.asked = None
    with Journal(tmp_path) as journal:
        assert len(journal.entries(Judged)) == 3
    evaluate(plan, tmp_path, name="stopped")
    with Journal(tmp_path) as journal:
        assert len(read_judgement(journal).verdicts) == 11


def test_the_last_slice_of_judging_is_kept_once_it_can_be_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_stage, "_SLICE_S", 0.2)
    energy_j = iter(range(100))
    counter = CumulativeCounter(
        lambda: {"cpu:0": float(next(energy_j))}, source=EnergySource.rapl, scope=EnergyScope.cpu
    )
    verdict = Verdict(task_id="t", sample=0, status=Status.passed, reason="pass", evaluation_s=1,
                      evaluation_cpu_s=1)  # fmt: skip
    with Journal(tmp_path) as journal, Meter(counter, sample_period_s=1.0, idle_s=0.0) as meter:

        def judge_one_and_stop() -> None:
            with _Slices(journal.append, meter, watts_per_core=3.5, cpu=None) as slices:
                slices.add(verdict)
                raise stopping.Stopped

        began_s = time.monotonic()
        with pytest.raises(stopping.Stopped):
            judge_one_and_stop()
        assert time.monotonic() - began_s >= 0.2
        (entry,) = journal.entries(Judged)
    assert entry.verdicts[0].energy_j == pytest.approx(1.0)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_model_that_does_not_answer(store: Path) -> None:
    process = decoding(store, new_session=True)
    (server,), child = children_of(process.pid), child_of(process.pid)
    assert child is not None
    os.kill(child, signal.SIGSTOP)
    os.killpg(process.pid, signal.SIGINT)
    with pytest.raises(Exception, match="timed out"):
        process.wait(timeout=1)
    began_s = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    done = process.completed(timeout=60)
    assert time.monotonic() - began_s < 10
    assert done.returncode == 130
    assert "SIGINT: stops as soon as what is under way is kept; once more stops it" in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(Path(f"/proc/{pid}").exists() for pid in (server, child))
    (job,) = [run for run in runs_of("codejoule", store) if "b1" in run.info.run_name]
    assert job.info.status == "KILLED"


@pytest.mark.slow
def test_a_sweep_that_is_told_to_end_keeps_its_batch_and_starts_no_other_job(store: Path) -> None:
    process = decoding(store, new_session=True)
    os.killpg(process.pid, signal.SIGTERM)
    done = process.completed(timeout=60)
    assert done.returncode == 130
    assert "interrupted: starter-none-b1 keeps " in done.stderr
    assert " of 24 samples; the same command continues where this stopped" in done.stderr
    assert "2 jobs: 0 finished, 2 did not finish." in done.stdout
    sweep, job = sorted(runs_of("codejoule", store), key=lambda run: run.info.run_name == "batch")
    assert {sweep.info.status, job.info.status} == {"KILLED"}
    kept = int(done.stderr.partition("b1 keeps ")[2].partition(" ")[0])
    again = run_main(store, "-m", "isolation=inline", "batch=b1", "suite.limit=24",
                     "evaluator=none")  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert f"continues: {kept} of 24 sequences were done before" in again.stderr
