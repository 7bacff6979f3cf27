"""Judge many samples, one worker per core, and a few more while samples sleep."""

import dataclasses
import functools
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable, Sequence

from codejoule.config import UserError
from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import Status, Verdict
from codejoule.domain.verdict import CLEAR, NOT_CHALLENGEABLE, SUSPECT
from codejoule.evaluation.attempt import try_sample
from codejoule.evaluation.challenge import challenge_tests
from codejoule.evaluation.expected import modules_worth_importing
from codejoule.evaluation.sample import Sample
from codejoule.sandbox.admission import Admission, workers_for
from codejoule.sandbox.host_memory import Memory
from codejoule.sandbox.interpreter import describe_interpreter
from codejoule.sandbox.launch import Launcher, choose_launcher
from codejoule.sandbox.sandbox import SandboxFacts, Worker
from codejoule.sandbox.stand_in import StandIns

KEPT_OUTPUT = "OUTPUT"
"""Key of what a sample printed, where its verdict keeps that."""

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
    expectations; their costs are those of the first run. A sample for which the memory of this
    machine, or of the control groups around this process, was too short while others ran is
    judged again alone; if that is not possible either, its status is `Status.unjudged`.

    Raises ConfigError for an unusable ``config.python`` and UserError, with the remedy, where
    this machine offers no isolation: untrusted code never runs outside the sandbox, unless
    ``config.isolation`` says so.
    """
    todo = list(samples)

    def settle(verdict: Verdict) -> None:
        if verdict.status is not Status.unjudged:
            on_verdict(verdict)

    judge_them = functools.partial(_judge, timeout_s=timeout_s, launcher=launcher)
    verdicts = judge_them(todo, config=config, on_verdict=settle, on_start=on_start)
    short = [index for index, v in enumerate(verdicts) if v.status is Status.unjudged]
    if short:
        _LOGGER.info("%d samples found too little memory: judged again, one at a time", len(short))
    again = judge_them(
        [todo[index] for index in short],
        config=dataclasses.replace(config, workers=1), on_verdict=on_verdict, on_start=_ignore,
    )  # fmt: skip
    for index, verdict in zip(short, again, strict=True):
        verdicts[index] = verdict
    return verdicts


def _judge(
    todo: Sequence[Sample],
    *,
    config: EvaluatorConfig,
    timeout_s: float,
    on_verdict: Callable[[Verdict], None],
    on_start: Callable[[SandboxFacts], None],
    launcher: Launcher | None,
) -> list[Verdict]:
    """Judge each once, whatever memory the others take meanwhile."""
    if not todo:
        return []
    interpreter = describe_interpreter(config.python)
    chosen = choose_launcher(launcher, config.isolation)
    sources = {text for s in todo for text in (s.code_prompt, s.test, s.plus_test)}
    preimport = modules_worth_importing(sources)
    memory = Memory()
    cores = len(os.sched_getaffinity(0))
    count = workers_for(min(config.workers or cores, len(todo)), memory)
    # A number that was asked for is kept to.
    more = min(cores, len(todo) - count) if config.workers is None else 0
    admission = Admission(memory, most=count + more)
    desk = _Desk(todo, admission, memory, timeout_s=timeout_s, challenge=config.challenge)
    workers = [Worker(config, interpreter, chosen, preimport=preimport) for _ in range(count)]
    spare = [Worker(config, interpreter, chosen, preimport=preimport) for _ in range(more)]
    stand_ins = StandIns(workers)
    threads = [threading.Thread(target=_work, args=(worker, desk)) for worker in workers]
    threads.append(threading.Thread(target=admission.watch, args=(desk.stop,)))
    if spare:
        threads.append(threading.Thread(target=stand_ins.watch, args=(desk.stop,)))
    for worker in spare:
        threads.append(threading.Thread(target=_stand_in, args=(worker, desk, stand_ins)))
    for thread in threads:
        thread.start()
    try:
        return _collect(len(todo), desk.done, on_verdict, on_start)
    except BaseException:
        desk.stop.set()
        for worker in [*workers, *spare]:
            worker.abort()
        raise
    finally:
        desk.stop.set()
        for thread in threads:
            thread.join()


class _Desk:
    """What all workers share: samples to be judged, verdicts on others, the order to stop."""

    def __init__(
        self, todo: Sequence[Sample], admission: Admission, memory: Memory, *, timeout_s: float,
        challenge: bool,
    ) -> None:  # fmt: skip
        self._todo = todo
        self._admission = admission
        self._memory = memory
        self._timeout_s = timeout_s
        self._challenge = challenge
        self._pending: queue.SimpleQueue[int] = queue.SimpleQueue()
        for index in range(len(todo)):
            self._pending.put(index)
        self.done: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        self.stop = threading.Event()

    def judge_next(self, worker: Worker) -> bool:
        """Have `worker` judge one sample; False where none is left."""
        try:
            index = self._pending.get_nowait()
        except queue.Empty:
            return False
        sample = self._todo[index]
        with self._admission.place(worker):
            verdict, output = try_sample(sample, worker, self._timeout_s, self._memory)
            if sample.keeps_output and verdict.status is Status.passed:
                verdict = dataclasses.replace(verdict, details={KEPT_OUTPUT: output})
            if self._challenge and verdict.status is Status.passed:
                verdict = dataclasses.replace(verdict, challenge=self._challenged(sample, worker))
            if verdict.status is Status.unjudged:
                self._admission.allow_fewer()
        self.done.put((index, verdict))
        return True

    def _challenged(self, sample: Sample, worker: Worker) -> str | None:
        """Whether a sample that passed notices that its tests expect something else; None where
        there was too little memory to find out."""
        challenged = challenge_tests(sample.test, name=f"{sample.task_id}\0{sample.sample}")
        if challenged is None:
            return NOT_CHALLENGEABLE
        changed = dataclasses.replace(sample, test=challenged.test, plus_test="")
        again, _ = try_sample(changed, worker, self._timeout_s, self._memory)
        if again.status is Status.unjudged:
            return None
        deceived = [test for test in challenged.changed if again.tests.get(test) == "pass"]
        return SUSPECT if deceived else CLEAR


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


def _work(worker: Worker, desk: _Desk) -> None:
    """One thread's share. It starts the worker itself and outlives it."""
    try:
        desk.done.put(worker.start())
        while not desk.stop.is_set() and desk.judge_next(worker):
            pass
    except BaseException as error:
        desk.done.put(error)
    finally:
        worker.stop()


def _stand_in(worker: Worker, desk: _Desk, stand_ins: StandIns) -> None:
    """The same, while others sleep. The worker is started when it is first needed."""
    try:
        started = False
        more = True
        while more and stand_ins.begin():
            try:
                started = started or _starts(worker)
                more = started and desk.judge_next(worker)
            finally:
                stand_ins.end()
    except BaseException as error:
        desk.done.put(error)
    finally:
        worker.stop()


def _starts(worker: Worker) -> bool:
    try:
        worker.start()
    except UserError as error:
        # Nobody waits for it: the others do the work, as they would without it.
        _LOGGER.warning("one more sandbox worker does not start: %s", error)
        return False
    return True


def _warn(facts: SandboxFacts) -> None:
    if facts.launcher is Launcher.process:
        _LOGGER.warning(
            "samples run WITHOUT a sandbox (evaluator.isolation=process), guarded by %s only: "
            "they may reach what docs/sandbox.md lists. Judge only what you would run yourself",
            ", ".join(facts.primitives),
        )
