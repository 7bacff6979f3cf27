"""Judge many samples, one worker per core."""

import dataclasses
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable, Sequence

from codejoule.config import UserError
from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import Status, Verdict
from codejoule.domain.verdict import CLEAR, NOT_CHALLENGEABLE, SUSPECT
from codejoule.evaluation.challenge import challenge_tests
from codejoule.evaluation.expected import expected_test_ids, modules_worth_importing
from codejoule.evaluation.interpreter import describe_interpreter
from codejoule.evaluation.launch import Launcher, choose_launcher
from codejoule.evaluation.ruling import rule
from codejoule.evaluation.sample import Sample
from codejoule.evaluation.worker import SandboxFacts, Worker

_LOGGER = logging.getLogger(__name__)
_Outcome = tuple[int, Verdict] | SandboxFacts | BaseException


def _ignore(_: object) -> None:
    pass


def judge(
    samples: Iterable[Sample],
    *,
    config: EvaluatorConfig,
    timeout_s: float,
    on_verdict: Callable[[Verdict], None] = _ignore,
    on_start: Callable[[SandboxFacts], None] = _ignore,
    launcher: Launcher | None = None,
) -> list[Verdict]:
    """Judge `samples` in the sandbox and return their verdicts in the samples' order.

    Each may take `timeout_s` of wall time. `on_verdict` is called in the caller's thread, in
    the order in which verdicts come, and `on_start` once before, with what isolates them.
    `launcher` forces a way to build the sandbox; by default bubblewrap is used where it is
    installed. With ``config.challenge`` passing samples run once more with changed
    expectations; their costs are those of the first run. Raises ConfigError for an unusable
    ``config.python`` and UserError, with the remedy, where this machine offers no isolation:
    untrusted code never runs outside the sandbox, unless ``config.isolation`` says so.
    """
    todo = list(samples)
    if not todo:
        return []
    interpreter = describe_interpreter(config.python)
    chosen = choose_launcher(launcher, config.isolation)
    preimport = modules_worth_importing({text for s in todo for text in (s.code_prompt, s.test)})
    pending: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(todo)):
        pending.put(index)
    done: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
    stop = threading.Event()
    workers = [
        Worker(config, interpreter, chosen, preimport=preimport)
        for _ in range(min(config.workers or len(os.sched_getaffinity(0)), len(todo)))
    ]
    threads = [
        threading.Thread(
            target=_work,
            args=(worker, todo, timeout_s, pending, done, stop),
            kwargs={"challenge": config.challenge},
        )
        for worker in workers
    ]
    for thread in threads:
        thread.start()
    try:
        return _collect(len(todo), done, on_verdict, on_start)
    except BaseException:
        stop.set()
        for worker in workers:
            worker.abort()
        raise
    finally:
        for thread in threads:
            thread.join()


def _collect(
    count: int,
    done: "queue.SimpleQueue[_Outcome]",
    on_verdict: Callable[[Verdict], None],
    on_start: Callable[[SandboxFacts], None],
) -> list[Verdict]:
    verdicts: dict[int, Verdict] = {}
    started = False
    while len(verdicts) < count:
        outcome = done.get()
        if isinstance(outcome, BaseException):
            raise outcome
        if isinstance(outcome, SandboxFacts):
            if not started:
                _warn(outcome)
                on_start(outcome)
            started = True
            continue
        index, verdict = outcome
        verdicts[index] = verdict
        on_verdict(verdict)
    return [verdicts[index] for index in range(count)]


def _work(
    worker: Worker,
    todo: Sequence[Sample],
    timeout_s: float,
    pending: "queue.SimpleQueue[int]",
    done: "queue.SimpleQueue[_Outcome]",
    stop: threading.Event,
    *,
    challenge: bool,
) -> None:
    """One thread's share. It starts the worker itself and outlives it."""
    try:
        done.put(worker.start())
        while not stop.is_set():
            try:
                index = pending.get_nowait()
            except queue.Empty:
                return
            sample = todo[index]
            verdict = _verdict_on(sample, worker, timeout_s)
            if challenge and verdict.status is Status.passed:
                result = _challenge(sample, worker, timeout_s)
                verdict = dataclasses.replace(verdict, challenge=result)
            done.put((index, verdict))
    except BaseException as error:
        done.put(error)
    finally:
        worker.stop()


def _verdict_on(sample: Sample, worker: Worker, timeout_s: float) -> Verdict:
    report = worker.judge(sample, timeout_s)
    if report["phase"] == "stuck" or report.get("init_error"):
        words = report.get("init_error") or report.get("what")
        raise UserError(f"the sandbox failed while judging {sample.task_id}: {words}")
    return rule(sample, expected_test_ids(sample.test), report)


def _challenge(sample: Sample, worker: Worker, timeout_s: float) -> str:
    """Whether a sample that passed notices that its tests expect something else."""
    challenged = challenge_tests(sample.test, name=f"{sample.task_id}\0{sample.sample}")
    if challenged is None:
        return NOT_CHALLENGEABLE
    again = _verdict_on(dataclasses.replace(sample, test=challenged.test), worker, timeout_s)
    deceived = [test for test in challenged.changed if again.tests.get(test) == "pass"]
    return SUSPECT if deceived else CLEAR


def _warn(facts: SandboxFacts) -> None:
    if facts.launcher is Launcher.process:
        _LOGGER.warning(
            "samples run WITHOUT a sandbox (evaluator.isolation=process), guarded by %s only: "
            "they may reach what docs/sandbox.md lists. Judge only what you would run yourself",
            ", ".join(facts.primitives),
        )
