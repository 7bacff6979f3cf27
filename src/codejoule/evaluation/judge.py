"""Judge many samples, with one sandbox per core and a few more while samples sleep, or one."""

import dataclasses
import functools
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable, Sequence

from codejoule.common.lazily import Lazily
from codejoule.config import UserError
from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import Status, Verdict
from codejoule.evaluation.ruling import verdict_on
from codejoule.evaluation.sample import Sample, modules_worth_importing
from codejoule.sandbox import Sandbox, SandboxFacts
from codejoule.sandbox.admission import Admission, workers_for
from codejoule.sandbox.host_memory import HostMemory

_LOGGER = logging.getLogger(__name__)


def judge(
    samples: Iterable[Sample],
    *,
    config: EvaluatorConfig,
    timeout_s: float,
    on_verdict: Callable[[Verdict], None] = lambda _: None,
    on_start: Callable[[SandboxFacts], None] = lambda _: None,
) -> list[Verdict]:
    """Judge `samples` in the sandbox and return their verdicts in the samples' order.

    Each may take `timeout_s` of wall time. `on_verdict` is called in the caller's thread, in
    the order in which verdicts come, and `on_start` once before, with what isolates them.
    A sample for which the memory of this machine, or of the control groups around this process,
    was too short while others ran is judged again alone; if that is not possible either, its
    status is `Status.unjudged`.

    Raises ConfigError for an unusable ``config.python`` and UserError, with the remedy, where
    this machine offers no isolation: untrusted code never runs outside the sandbox, unless
    ``config.isolation`` says so.
    """
    todo = list(samples)
    verdicts: dict[int, Verdict] = {}

    def note(place: int, verdict: Verdict) -> None:
        verdicts[place] = verdict
        on_verdict(verdict)

    judge_each(todo, config=config, timeout_s=timeout_s, on_verdict=note, on_start=on_start)
    return [verdicts[place] for place in range(len(todo))]


def judge_each(
    samples: Sequence[Sample],
    *,
    config: EvaluatorConfig,
    timeout_s: float,
    on_verdict: Callable[[int, Verdict], None],
    on_start: Callable[[SandboxFacts], None] = lambda _: None,
) -> None:
    """As `judge`, but verdicts are told alone, each with the place of its sample, and held by
    nobody; a sample is asked for (by any thread) when it is its turn."""
    short: list[int] = []

    def settle(place: int, verdict: Verdict) -> None:
        if verdict.status is Status.unjudged:
            short.append(place)
        else:
            on_verdict(place, verdict)

    judge_once = functools.partial(_judge_once, timeout_s=timeout_s)
    judge_once(samples, config=config, on_verdict=settle, on_start=on_start)
    if short:
        _LOGGER.info("%d samples found too little memory: judged again, one at a time", len(short))
    short.sort()
    judge_once(
        Lazily(len(short), lambda number: samples[short[number]]),
        config=dataclasses.replace(config, workers=1),
        on_verdict=lambda number, verdict: on_verdict(short[number], verdict),
        on_start=lambda _: None,
    )


def judge_one(sample: Sample, *, config: EvaluatorConfig, timeout_s: float) -> tuple[Verdict, str]:
    """The verdict on `sample`, and the end of what it printed (4 KiB at most). Raises as `judge`
    does."""
    with Sandbox(config, preimport=_modules_of([sample])) as sandbox:
        return verdict_on(sample, sandbox, timeout_s=timeout_s, memory=HostMemory())


def _modules_of(samples: Sequence[Sample]) -> list[str]:
    """Modules that a sandbox for them imports once."""
    sources = {text for s in samples for text in (s.code_prompt, s.test, s.plus_test)}
    return modules_worth_importing(sources)


def _judge_once(
    todo: Sequence[Sample],
    *,
    config: EvaluatorConfig,
    timeout_s: float,
    on_verdict: Callable[[int, Verdict], None],
    on_start: Callable[[SandboxFacts], None],
) -> None:
    """Judge each once, whatever memory the others take meanwhile."""
    if not todo:
        return
    memory = HostMemory()
    cores = len(os.sched_getaffinity(0))
    count = workers_for(min(config.workers or cores, len(todo)), memory)
    # A number that the user asked for is kept.
    spares = min(cores, len(todo) - count) if config.workers is None else 0
    preimport = _modules_of(todo)
    sandboxes = [Sandbox(config, preimport=preimport) for _ in range(count + spares)]
    judge_sample = functools.partial(verdict_on, timeout_s=timeout_s, memory=memory)
    pool = _Pool(todo, judge_sample, Admission(memory, most=count + spares))
    threads = [threading.Thread(target=pool.admission.watch, args=(pool.stop,))]
    for number, sandbox in enumerate(sandboxes):
        threads.append(threading.Thread(target=pool.work, args=(sandbox, number >= count)))
    for thread in threads:
        thread.start()
    try:
        _collect(len(todo), pool.done, on_verdict, on_start)
    except BaseException:
        pool.stop.set()
        for sandbox in sandboxes:
            sandbox.abort()
        raise
    finally:
        pool.stop.set()
        for thread in threads:
            thread.join()


class _Pool:
    """What all sandboxes share: samples to be judged, verdicts on others, the order to stop.
    Its methods run in a thread per sandbox, which starts it and outlives it."""

    def __init__(
        self,
        todo: Sequence[Sample],
        judge_sample: Callable[[Sample, Sandbox], tuple[Verdict, str]],
        admission: Admission,
    ) -> None:
        self._judge_sample = judge_sample
        self.admission = admission
        self._todo = todo
        # Of CPython's own iterators a step is atomic.
        self._pending = iter(range(len(todo)))
        self.done: queue.SimpleQueue[tuple[int, Verdict] | SandboxFacts | BaseException]
        self.done = queue.SimpleQueue()
        self.stop = threading.Event()

    def work(self, sandbox: Sandbox, spare: bool) -> None:
        """The work of one sandbox. A `spare` one judges while others sleep, and is started when it
        is first needed."""
        started = not spare
        with sandbox:
            try:
                if started:
                    self.done.put(sandbox.start())
                while not self.stop.is_set():
                    with self.admission.place(sandbox, spare=spare) as granted:
                        if not granted:
                            return
                        if not started:
                            self.done.put(sandbox.start())
                            started = True
                        index = next(self._pending, None)
                        if index is None:
                            return
                        verdict, _ = self._judge_sample(self._todo[index], sandbox)
                        if verdict.status is Status.unjudged:
                            self.admission.allow_fewer()
                    self.done.put((index, verdict))
            except BaseException as error:
                if spare and not started and isinstance(error, UserError):
                    # Nobody waits for it: the others do the work, as they would without it.
                    _LOGGER.warning("one more sandbox worker does not start: %s", error)
                else:
                    self.done.put(error)


def _collect(
    count: int,
    done: "queue.SimpleQueue[tuple[int, Verdict] | SandboxFacts | BaseException]",
    on_verdict: Callable[[int, Verdict], None],
    on_start: Callable[[SandboxFacts], None],
) -> None:
    started = False
    while count:
        outcome = done.get()
        if isinstance(outcome, BaseException):
            raise outcome
        if isinstance(outcome, SandboxFacts):
            if not started:
                on_start(outcome)
            if not started and outcome.launcher == "process":
                _LOGGER.warning(
                    "samples run WITHOUT a sandbox (evaluator.isolation=process), guarded by %s "
                    "only: they share this machine's file system, processes and users. Judge only "
                    "what you would run yourself",
                    ", ".join(outcome.primitives),
                )
            started = True
            continue
        index, verdict = outcome
        count -= 1
        on_verdict(index, verdict)
