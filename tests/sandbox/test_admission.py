"""Samples begin while there is memory for one more, and the largest ends before the kernel
kills."""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest

from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import Status, Verdict
from codejoule.evaluation import VerdictLog, judge, judge_resuming
from codejoule.sandbox import admission
from codejoule.sandbox.admission import Admission, workers_for
from codejoule.sandbox.host_memory import HostMemory

from .conftest import in_child, make_sample, named_files

MIB = 2**20
GIB = 2**30
GOOD = named_files("controls")["plain"]
WRONG = "def scale(values, factor):\n    return list(values)\n"


class Left(HostMemory):
    """A machine that has left what a test says: in turn, and then the last for good."""

    def __init__(self, *left: int) -> None:
        self.left = list(left)

    def available_bytes(self) -> int:
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


class Busy:
    """A worker whose sample has taken some memory."""

    def __init__(self, taken: int) -> None:
        self.taken = taken
        self.evicted = threading.Event()

    def taken_bytes(self) -> int:
        return self.taken

    def evict(self) -> None:
        self.evicted.set()

    def progress(self) -> None:
        return None


@pytest.mark.parametrize(
    ("wanted", "left", "workers"),
    [(8, 64 * GIB, 8), (8, 3 * GIB + 1, 3), (8, GIB // 2, 1), (1, -GIB, 1), (64, 0, 1)],
)
def test_workers_are_as_many_as_there_is_memory_for(wanted: int, left: int, workers: int) -> None:
    assert workers_for(wanted, Left(left)) == workers


def _entered(gate: Admission, worker: Busy, over: threading.Event) -> threading.Event:
    inside = threading.Event()

    def work() -> None:
        with gate.place(worker):
            inside.set()
            over.wait(20)

    threading.Thread(target=work, daemon=True).start()
    return inside


def test_one_sample_always_begins_and_the_next_when_there_is_room() -> None:
    memory, over = Left(-GIB), threading.Event()
    gate = Admission(memory, most=2)
    assert _entered(gate, Busy(0), over).wait(10)
    second = _entered(gate, Busy(0), over)
    assert not second.wait(0.1)
    memory.left = [GIB]
    assert second.wait(10)
    over.set()


def test_after_a_shortage_one_fewer_is_judged_at_once() -> None:
    gate, over = Admission(Left(GIB), most=2), threading.Event()
    assert _entered(gate, Busy(0), over).wait(10)
    with gate.place(Busy(0)):
        gate.allow_fewer()
    assert not _entered(gate, Busy(0), over).wait(0.1)
    over.set()


@contextlib.contextmanager
def _watched(memory: HostMemory, workers: list[Busy]) -> Iterator[None]:
    gate, over = Admission(memory, most=len(workers)), threading.Event()
    with contextlib.ExitStack() as stack:
        memory_left, memory.left = memory.left, [GIB]  # type: ignore[attr-defined]
        for worker in workers:
            stack.enter_context(gate.place(worker))
        memory.left = memory_left  # type: ignore[attr-defined]
        thread = threading.Thread(target=gate.watch, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def test_the_largest_sample_is_ended_when_memory_is_short() -> None:
    workers = [Busy(GIB), Busy(3 * GIB), Busy(2 * GIB)]
    with _watched(Left(4 * GIB, -1, GIB), workers):
        assert workers[1].evicted.wait(10)
    assert not workers[0].evicted.is_set()


def test_samples_that_have_taken_little_are_left_alone() -> None:
    worker = Busy(10 * MIB)
    with _watched(Left(-1), [worker]):
        assert not worker.evicted.wait(0.1)


def test_what_several_take_in_the_next_moment_counts_but_not_what_one_takes() -> None:
    falling = [4 * GIB - step * 256 * MIB for step in range(12)] + [64 * MIB]
    for workers in ([Busy(GIB)], [Busy(GIB), Busy(GIB)]):
        with _watched(Left(*falling), workers):
            found = any(worker.evicted.wait(1) for worker in workers)
        assert found is (len(workers) > 1)


def _judge(*solutions: str, workers: int = 1, seen: list[Verdict] | None = None) -> list[Verdict]:
    samples = [make_sample(text, number=number) for number, text in enumerate(solutions)]
    note = (lambda _: None) if seen is None else seen.append
    config = EvaluatorConfig(workers=workers)
    return judge(samples, config=config, timeout_s=60, on_verdict=note)


def _kill_something_at_each_look(patch: pytest.MonkeyPatch) -> None:
    numbers = count()
    patch.setattr(HostMemory, "kills", lambda _: next(numbers))


def test_a_failure_while_the_kernel_killed_is_judged_again_and_is_no_verdict_if_it_does_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _kill_something_at_each_look(monkeypatch)
    seen: list[Verdict] = []
    good, wrong = _judge(GOOD, WRONG, seen=seen)
    assert (good.reason, wrong.reason) == ("pass", "short of memory")
    assert wrong.status is Status.unjudged
    assert "had too little memory for it" in wrong.details["ALL"]
    assert [verdict.sample for verdict in seen] == [0, 1], "each is told once"


def test_a_failure_stands_if_the_second_run_alone_finds_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kills = iter([0, 1, *[1] * 99])
    monkeypatch.setattr(HostMemory, "kills", lambda _: next(kills))
    (verdict,) = _judge(WRONG)
    assert verdict.reason == "fail"


def test_memory_that_is_refused_below_the_limit_is_the_machines_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hungry = "def scale(values, factor):\n    raise MemoryError\n"
    assert _judge(hungry)[0].reason == "memory"
    monkeypatch.setattr(HostMemory, "promised_bytes", lambda _: 2**28)
    assert _judge(hungry)[0].reason == "short of memory"


def test_what_could_not_be_judged_is_judged_again_on_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [make_sample(text, number=number) for number, text in enumerate([GOOD, WRONG])]
    kept: list[Sequence[Verdict]] = []

    def run() -> tuple[list[str], int]:
        with VerdictLog(tmp_path / "verdicts.jsonl") as log:
            verdicts = judge_resuming(
                samples, log, config=EvaluatorConfig(workers=1), timeout_s=60, on_kept=kept.append
            )
        return [verdict.reason for verdict in verdicts], len(kept.pop())

    with monkeypatch.context() as patch:
        _kill_something_at_each_look(patch)
        assert run() == (["pass", "short of memory"], 0)
    assert run() == (["pass", "fail"], 1)
    assert run() == (["pass", "fail"], 2)


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group of its own that holds 384 MiB."""
    for parent in HostMemory()._groups:
        group = parent / f"codejoule-test-{time.monotonic_ns()}"
        with contextlib.suppress(OSError):
            group.mkdir()
            limits = [group / name for name in ("memory.max", "memory.limit_in_bytes")]
            for limit in [limit for limit in limits if limit.exists()]:
                limit.write_text(str(384 * MIB))
                yield group
                _remove(group)
                return
            group.rmdir()
    pytest.skip("no control group with a memory limit can be made here")


def _remove(group: Path) -> None:
    until_s = time.monotonic() + 10
    while time.monotonic() < until_s:
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.01)


def _takes(megabytes: int) -> str:
    return f"block = b'x' * {megabytes * MIB}\nimport time; time.sleep(0.3)\n{GOOD}"


def test_correct_programs_pass_where_there_is_memory_for_one_at_a_time(small_group: Path) -> None:
    def work() -> list[str]:
        (small_group / "cgroup.procs").write_text("0")
        admission._PER_WORKER_BYTES = admission._PER_SAMPLE_BYTES = 32 * MIB  # type: ignore[misc]
        return [v.reason for v in _judge(*[_takes(180)] * 4, _takes(900), workers=2)]

    found = in_child(work)
    assert found == ["pass"] * 4 + ["short of memory"], found


def test_a_sample_that_the_kernel_kills_for_memory_is_no_fail(small_group: Path) -> None:
    def work() -> list[str]:
        (small_group / "cgroup.procs").write_text("0")
        Admission.watch = lambda self, over: None  # type: ignore[method-assign]
        return [v.reason for v in _judge(_takes(900), "import os; os.kill(os.getpid(), 9)", GOOD)]

    assert in_child(work) == ["short of memory", "crash", "pass"]
