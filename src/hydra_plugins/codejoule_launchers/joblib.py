"""``hydra/launcher=joblib``: several jobs at once on this machine, in worker processes."""

import logging
import os
import re
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Self

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.codejoule_launchers._job import RemoteJob, remote_jobs, settle_sweep_folder

_LOOK_S = 0.2
"""How often it is looked whether the jobs shall stop [s]."""
_PATIENCE = 2
"""Interrupts that a job is told of; the next ends it."""


class JoblibLauncher(Launcher):
    """Runs as many jobs at once as `n_jobs` says. A worker that dies takes its own job along and no
    other: the rest of the sweep goes on."""

    def __init__(self, n_jobs: int | None = None) -> None:
        self._n_jobs = n_jobs

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra before the sweep begins. Raises `UserError` where it cannot."""
        from codejoule.config import UserError
        from codejoule.config.extras import require_choice

        require_choice("hydra/launcher=joblib")
        if self._n_jobs is not None and self._n_jobs < 1:
            raise UserError(
                f"hydra.launcher.n_jobs={self._n_jobs}: must be at least 1; null is one job for "
                "each visible GPU"
            )
        self._context, self._task, self._config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Called by Hydra with the jobs that may run at the same time."""
        from codejoule.common.progress import say

        settle_sweep_folder(self._config)
        jobs = remote_jobs(self._context, self._task, self._config, job_overrides, initial_job_idx)
        at_once = min(self._n_jobs or _jobs_at_once(self._config), len(jobs))
        say(f"{at_once} {'job' if at_once == 1 else 'jobs'} at once (hydra.launcher.n_jobs).")
        with _lines_only():
            return _Jobs(jobs, at_once).run()


def _jobs_at_once(config: DictConfig) -> int:
    """As many as the visible GPUs are enough for, as NVML says: CUDA is the jobs' to begin. One on
    the CPU."""
    from codejoule.config.schema import Device
    from codejoule.measurement import detect_gpus

    visible = 0 if config.device is Device.cpu else len(detect_gpus()[0])
    return max(1, visible // (config.gpus or 1))


@contextmanager
def _lines_only() -> Iterator[None]:
    """Inside, the jobs write lines to the terminal, and there is no live line for them to break."""
    from codejoule.common.display import Display
    from codejoule.common.progress import watcher
    from codejoule.config.schema import ProgressMode

    display = watcher()
    if not isinstance(display, Display) or display.mode is not ProgressMode.auto:
        yield
        return
    display.pause()
    display.mode = ProgressMode.plain
    try:
        yield
    finally:
        display.mode = ProgressMode.auto


class _Jobs:
    """Jobs that are run, some at a time."""

    def __init__(self, jobs: Sequence[RemoteJob], at_once: int) -> None:
        from codejoule.experiment.schedule import schedule_here

        self._jobs = list(jobs)
        self._waiting = list(reversed(self._jobs))
        self._free = [_Worker() for _ in range(at_once)]
        self._running: dict[Future[JobReturn], tuple[RemoteJob, _Worker]] = {}
        self._returned: dict[int, JobReturn] = {}
        self._schedule = schedule_here()
        if self._schedule is not None:
            self._schedule.at_once = at_once

    def run(self) -> list[JobReturn]:
        """Run all; what they return, in their order. An interrupt is passed on to the jobs at work,
        and no further one begins."""
        with _Interrupts() as interrupts:
            try:
                while self._running or (self._waiting and not interrupts.times):
                    self._show()
                    while self._free and self._waiting and not interrupts.times:
                        self._start(self._waiting.pop(), self._free.pop())
                    done, _ = wait(self._running, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
                    for each in done:
                        self._end(each, interrupted=interrupts.times > 0)
                    interrupts.pass_on([worker for _, worker in self._running.values()])
            finally:
                for worker in (*self._free, *(worker for _, worker in self._running.values())):
                    worker.end()
        if interrupts.times:
            raise KeyboardInterrupt
        return [self._returned[job.number] for job in self._jobs]

    def _show(self) -> None:
        from codejoule.common.display import Display
        from codejoule.common.progress import doing, watcher

        display = watcher()
        if isinstance(display, Display) and self._schedule is not None:
            display.left = self._schedule.left
        doing("running jobs", f"{len(self._returned)} of {len(self._jobs)} have ended")

    def _start(self, job: RemoteJob, worker: "_Worker") -> None:
        if self._schedule is not None:
            self._schedule.begin(job.number)
        self._running[worker.run(job)] = job, worker

    def _end(self, ended: "Future[JobReturn]", *, interrupted: bool) -> None:
        job, worker = self._running.pop(ended)
        error, worked = ended.exception(), False
        if error is None:
            self._returned[job.number] = returned = ended.result()
            self._free.append(worker)
            worked = _worked(returned)
        elif isinstance(error, BrokenProcessPool | KeyboardInterrupt | SystemExit):
            worker.end()
            self._free.append(_Worker())
            if not interrupted:
                self._returned[job.number] = _lost(job, error)
        else:
            raise error
        if self._schedule is not None:
            self._schedule.end(job.number, worked=worked)


def _worked(returned: JobReturn) -> bool:
    """Whether a job did all its work, so that what it took tells what others will take."""
    from pathlib import Path

    from codejoule.experiment.sweep import Outcome, State, current_sweep

    sweep = current_sweep()
    assert sweep is not None and returned.hydra_cfg is not None
    outcome = Outcome.load(Path(returned.hydra_cfg.hydra.runtime.output_dir), sweep.run_id)
    return outcome is not None and outcome.state is State.finished


def _lost(job: RemoteJob, error: BaseException) -> JobReturn:
    """Say what became of a job whose worker has died, and mark its run."""
    from codejoule.common.progress import say
    from codejoule.experiment.lost import lost_job
    from codejoule.experiment.sweep import current_sweep
    from codejoule.tracking import prepare_store

    config = job.composed(str(job.number))
    how, hint = "was interrupted", ""
    if isinstance(error, BrokenProcessPool):
        # joblib tells the exit code in words alone: "... are {SIGKILL(-9)}".
        code = re.search(r"\{(.*)\}", str(error))
        how = f"died with {code[1]}" if code else f"died ({str(error).partition(chr(10))[0]})"
    if "SIGKILL" in how:
        hint = " (the kernel kills with SIGKILL when the machine runs out of memory)"
    why = (
        f"its process {how}{hint}; finished batches are kept, and the same command continues after "
        "them"
    )
    say(f"Job {job.number + 1} ({' '.join(job.overrides)}): {why}")
    sweep = current_sweep()
    assert sweep is not None
    prepare_store(sweep.tracking).close_stale()
    return lost_job(config, why)


class _Worker:
    """A process that runs one job after the other."""

    def __init__(self) -> None:
        from joblib.externals.loky.process_executor import ProcessPoolExecutor

        self._pool = ProcessPoolExecutor(max_workers=1, initializer=_begin, initargs=(os.getpid(),))

    def run(self, job: RemoteJob) -> "Future[JobReturn]":
        """Give it a job, where it has none."""
        future: Future[JobReturn] = self._pool.submit(job.run, str(job.number))
        return future

    def interrupt(self, number: int) -> None:
        """Do what a terminal does to a command in its foreground: all processes of the job get the
        signal."""
        for pid in list(self._pool._processes):
            with suppress(ProcessLookupError):
                # Its group is its own once it has begun.
                own = os.getpgid(pid) == pid
                (os.killpg if own else os.kill)(pid, number)

    def end(self) -> None:
        """End it, and what it has started."""
        self._pool.shutdown(kill_workers=True)


def _begin(parent: int) -> None:
    """Called in a worker before its first job. It has a process group of its own, so that Ctrl-C
    reaches it once, through the launcher; and it ends with the launcher, however that ends."""
    from codejoule.common.forking import die_with

    os.setpgid(0, 0)
    die_with(parent)
    # Also where the launcher was started with interrupts ignored, as in a script's background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # As in the process that this is a part of (codejoule.cli.launch).
    logging.raiseExceptions = False


class _Interrupts:
    """Inside, an interrupt is counted, to be passed on, and interrupts nothing here."""

    def __init__(self) -> None:
        self.times = 0
        """How many there were."""
        self._passed_on = 0

    def pass_on(self, workers: "Sequence[_Worker]") -> None:
        """Tell the jobs at work of those that they have not been told of."""
        from codejoule.common.progress import say

        while self._passed_on < self.times:
            self._passed_on += 1
            if self._passed_on == 1 and workers:
                say(f"Interrupted: no further job begins, and {len(workers)} at work shall stop.")
            over = self._passed_on > _PATIENCE
            for worker in workers:
                worker.interrupt(signal.SIGKILL if over else signal.SIGINT)

    def _count(self, number: int, frame: FrameType | None) -> None:
        self.times += 1

    def __enter__(self) -> Self:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self._before = {n: handler for n, handler in before.items() if handler != signal.SIG_IGN}
        for number in self._before:
            signal.signal(number, self._count)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
