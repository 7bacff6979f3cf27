"""``hydra/launcher=slurm``: each job of a sweep is a job of Slurm, by submitit."""

import logging
import os
import pickle
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.codejoule_launchers._job import RemoteJob, remote_jobs, settle_sweep_folder

if TYPE_CHECKING:
    from submitit import SlurmJob

_log = logging.getLogger(__name__)

_LOOK_S = 1.0
"""Between two looks at what jobs have written [s]."""
_ASK_S = (5.0, 30.0)
"""Between two questions to Slurm: in the first minute, and afterwards [s]."""
_FIRST_S = 60.0
_GRACE_S = 30.0
"""A network file system may show what a job has written so much later [s]."""
_KILL_WAIT_S = 30.0
"""Slurm kills a job so long after SIGTERM, unless it is set up otherwise [s]."""
_MARGIN_S = 10.0
_NOTICES = (signal.SIGUSR2, signal.SIGTERM)
"""submitit has Slurm announce the time limit with the one; the other comes with preemption and
with `scancel`."""
_LAST_LINES = 10


class SlurmLauncher(Launcher):
    """Submits the jobs as an array and waits for them. What becomes of a job is read from what it
    leaves on disk, and from ``squeue``: accounting is not needed."""

    def __init__(self, **options: Any) -> None:
        self._options: dict[str, Any] = {
            key: OmegaConf.to_container(value, resolve=True)
            if OmegaConf.is_config(value)
            else value
            for key, value in options.items()
        }

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra before the sweep begins. Raises `UserError` where it cannot."""
        from codejoule.config import UserError
        from codejoule.config.extras import require_choice

        require_choice("hydra/launcher=slurm")
        if lacking := [name for name in ("sbatch", "squeue") if shutil.which(name) is None]:
            raise UserError(
                f"hydra/launcher=slurm: {' and '.join(lacking)} not found: start the sweep where "
                "Slurm's commands are, on the cluster's login node (hydra/launcher=joblib runs "
                "several jobs on this machine alone)"
            )
        self._context, self._task, self._config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Called by Hydra with the jobs that may run at the same time."""
        from codejoule.common.progress import say

        folder = settle_sweep_folder(self._config)
        sent = remote_jobs(self._context, self._task, self._config, job_overrides, initial_job_idx)
        jobs = self._submit([_OnNode(job, self._options["signal_delay_s"]) for job in sent])
        first, last = jobs[0].job_id, jobs[-1].job_id
        ids = first if first == last else f"{first} to {last}"
        say(f"Slurm has the jobs {ids}; their logs are in {folder / '.submitit'}.")
        return _Waiting(sent, jobs).wait()

    def _submit(self, calls: "Sequence[_OnNode]") -> "list[SlurmJob[Any]]":
        import submitit

        from codejoule.config import UserError, python_path

        own = dict(self._options)
        executor = submitit.SlurmExecutor(
            own.pop("submitit_folder"), max_num_timeout=own.pop("max_num_timeout")
        )
        memory_gb = own.pop("mem_gb")
        exports = [f"export {key}={shlex.quote(value)}" for key, value in python_path().items()]
        # Where jobs start with an empty environment, srun would empty it again.
        own["setup"] = ["export SLURM_EXPORT_ENV=ALL", *exports, *own["setup"]]
        own["additional_parameters"] = {"requeue": True, **own["additional_parameters"]}
        try:
            executor.update_parameters(
                job_name=own.pop("name"),
                time=own.pop("timeout_min"),
                mem=None if memory_gb is None else f"{memory_gb}GB",
                stderr_to_stdout=True,
                **own,
            )
            return cast("list[SlurmJob[Any]]", executor.submit_array(calls))
        except (submitit.core.utils.FailedJobError, ValueError) as error:
            raise UserError(f"hydra/launcher=slurm: Slurm takes no jobs: {error}") from error


class _OnNode:
    """A job as submitit calls it on a node. submitit's handler of SIGUSR2 queues the job again at
    once; here that is done when the batch at work has ended, and for SIGTERM as well."""

    def __init__(self, job: RemoteJob, notice_s: float) -> None:
        import cloudpickle

        # As it was sent: what a job has imported and opened meanwhile cannot all be pickled.
        self.job: bytes = cloudpickle.dumps(job)
        self.notice_s = notice_s

    def checkpoint(self) -> Any:
        """Called by submitit: what is called when the job begins anew. It continues by itself."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def __call__(self) -> JobReturn:
        """Run the job until it has ended, or Slurm wants its node back."""
        job: RemoteJob = pickle.loads(self.job)
        notice = _Notice(signal.getsignal(signal.SIGUSR2), self.notice_s)
        try:
            return job.run(_job_id())
        except KeyboardInterrupt:
            notice.follow()
            raise


class _Notice:
    """Slurm's word that a job's time on its node is over. What is under way is finished and kept
    first, if that takes no longer than Slurm waits."""

    def __init__(self, requeue: Any, notice_s: float) -> None:
        """`requeue` is submitit's handler: it ends this process."""
        self._requeue = requeue
        self._notice_s = notice_s
        self._given: int | None = None
        self._once = threading.Lock()
        for number in _NOTICES:
            signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        from codejoule.experiment import stopping

        if self._given is None:
            self._given = number
            whole_s = self._notice_s if number == signal.SIGUSR2 else _KILL_WAIT_S
            late = threading.Timer(max(0.0, whole_s - _MARGIN_S), self.follow)
            late.daemon = True
            late.start()
        stopping.ask(signal.Signals(number).name)

    def follow(self) -> None:
        """Queue the job again and end this process, unless Slurm does that, or has cancelled it.
        Does nothing where Slurm has said nothing."""
        if self._given is None or not self._once.acquire(blocking=False):
            return
        if threading.current_thread() is threading.main_thread():
            # Slurm sends SIGTERM once more when it is asked to queue the job again.
            for number in _NOTICES:
                signal.signal(number, signal.SIG_IGN)
        if _ending():
            sys.exit(1)
        self._requeue(self._given, None)


def _job_id() -> str:
    import submitit

    return str(submitit.JobEnvironment().job_id)


def _ending() -> bool:
    """Whether Slurm is ending this job whatever it does."""
    states = _states([_job_id()])
    return states is not None and states.get(_job_id()) not in ("RUNNING", "SUSPENDED")


class _Waiting:
    """Jobs of one sweep that Slurm has."""

    def __init__(self, sent: Sequence[RemoteJob], jobs: "Sequence[SlurmJob[Any]]") -> None:
        self._sent = sent
        self._jobs = dict(enumerate(jobs))
        self._returned: dict[int, JobReturn] = {}
        self._gone_s: dict[int, float] = {}
        self._began_s = time.monotonic()
        self._asked_s = self._began_s

    def wait(self) -> list[JobReturn]:
        """Wait for all; in their order. An interrupt cancels them."""
        try:
            self._until_all_ended()
        except KeyboardInterrupt as interrupt:
            self._cancel(interrupt)
            raise
        return [self._returned[place] for place in range(len(self._sent))]

    def _until_all_ended(self, until_s: float = float("inf")) -> None:
        while self._jobs and time.monotonic() < until_s:
            for place, job in list(self._jobs.items()):
                if _has_result(job):
                    self._end(place)
            now_s = time.monotonic()
            between_s = _ASK_S[now_s - self._began_s > _FIRST_S]
            if self._jobs and now_s - self._asked_s >= between_s:
                self._asked_s = now_s
                self._ask()
            time.sleep(_LOOK_S)

    def _ask(self) -> None:
        """Ask Slurm which jobs there are. One that it no longer has, and that has left no result
        for a while, is lost."""
        from codejoule.common.progress import doing

        states = _states([job.job_id for job in self._jobs.values()])
        if states is None:  # Slurm gives no answer, which says nothing of the jobs
            return
        now_s = time.monotonic()
        for place, job in list(self._jobs.items()):
            if job.job_id in states:
                self._gone_s.pop(place, None)
            elif now_s - self._gone_s.setdefault(place, now_s) > _GRACE_S:
                self._end(place)
        count = [f"{list(states.values()).count(state)} {state.lower()}" for state in
                 dict.fromkeys(states.values())]  # fmt: skip
        doing("waiting for Slurm", ", ".join(count))

    def _end(self, place: int) -> None:
        """Take what the job has returned, or say that it is lost."""
        job, sent = self._jobs.pop(place), self._sent[place]
        from submitit.core.utils import UncompletedJobError

        from codejoule.experiment.lost import lost_job

        how = "has failed"
        try:
            if _has_result(job):
                self._returned[place] = job.results()[0]
                return
            how = _how_it_ended(job.job_id)
        except UncompletedJobError:  # the log says it best
            pass
        words = "\n  ".join(_last_lines(job.paths.stdout))
        why = (
            f"Slurm job {job.job_id} {how}; its finished batches are kept, and the same command "
            f"continues after them. Its log ({job.paths.stdout}) ends with:\n  {words or 'nothing'}"
        )
        self._returned[place] = lost_job(sent.composed(job.job_id), why)

    def _cancel(self, interrupt: KeyboardInterrupt) -> None:
        """Cancel what has not ended, and wait a little until it has kept what it can."""
        from codejoule.common.progress import doing

        ids = [job.job_id for job in self._jobs.values()]
        if not ids:
            return
        command = f"scancel {' '.join(ids)}"
        try:
            doing("cancelling the jobs of Slurm", command)
            done = _call("scancel", *ids)
            if done is None or done.returncode != 0:
                interrupt.add_note(f"these jobs of Slurm could not be cancelled: {command}")
                return
            until_s = time.monotonic() + _KILL_WAIT_S + _MARGIN_S
            while time.monotonic() < until_s and (states := _states(ids)) != {}:
                doing("waiting for the jobs of Slurm to stop", ", ".join(states or ()))
                time.sleep(_LOOK_S)
            interrupt.add_note(
                f"{command} has cancelled what had not ended, and its finished batches are kept"
            )
        except KeyboardInterrupt as again:
            again.add_note(f"jobs of Slurm may still run, which {command} cancels")
            raise


def _has_result(job: "SlurmJob[Any]") -> bool:
    folder = job.paths.folder
    # Listing a folder makes a network file system look again.
    return folder.is_dir() and job.paths.result_pickle.name in os.listdir(folder)  # noqa: PTH208


def _states(ids: Sequence[str]) -> dict[str, str] | None:
    """Slurm's states of those of these jobs that it still has to do with; None where it gives no
    answer."""
    done = _call("squeue", "--noheader", "--array", "--me", "--format=%i %T")
    if done is None or done.returncode != 0:
        return None
    found = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip())
    return {job: found[job] for job in ids if job in found}


def _how_it_ended(job_id: str) -> str:
    """What Slurm says of a job that has left no result, as long as it remembers it."""
    done = _call("scontrol", "--oneliner", "show", "job", job_id)
    facts = _facts(done.stdout) if done is not None and done.returncode == 0 else {}
    state = facts.get("JobState")
    if state is None:
        done = _call("sacct", "-n", "-X", "-P", "-j", job_id, "-o", "State")
        state = done.stdout.strip() if done is not None and done.returncode == 0 else None
    return f"has ended without a result ({f'state {state}' if state else 'nothing more is known'})"


def _facts(line: str) -> Mapping[str, str]:
    pairs = (word.partition("=") for word in line.split())
    return {key: value for key, _, value in pairs}


def _last_lines(log: Any) -> list[str]:
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-_LAST_LINES:]


def _call(*command: str) -> "subprocess.CompletedProcess[str] | None":
    """One of Slurm's commands; None where it cannot be run, or takes too long."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
