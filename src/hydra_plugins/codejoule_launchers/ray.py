"""``hydra/launcher=ray``: each job of a sweep is a task of Ray."""

import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, ListConfig, OmegaConf

from hydra_plugins.codejoule_launchers._job import RemoteJob, remote_jobs, settle_sweep_folder

_STOP_S = 60.0
"""How long jobs may take to stop when the sweep is interrupted [s]."""


class RayLauncher(Launcher):
    """Gives all jobs to Ray and waits for them. Ray itself begins lost ones anew; of one that stays
    lost the sweep says why, and the others go on."""

    def __init__(self, init: DictConfig, remote: DictConfig, forward: ListConfig) -> None:
        self._init = _plain(init)
        self._remote = _plain(remote)
        self._forward = [str(prefix) for prefix in forward]

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra before the sweep begins. Raises `UserError` where it cannot."""
        from codejoule.config.extras import require_choice

        require_choice("hydra/launcher=ray")
        self._context, self._task, self._config = hydra_context, task_function, config
        # Before the sweep has a run: it may be that there is no cluster.
        self._connect()

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Called by Hydra with the jobs that may run at the same time."""
        import ray

        settle_sweep_folder(self._config)
        jobs = remote_jobs(
            self._context,
            self._task,
            self._config,
            job_overrides,
            initial_job_idx,
            forward=self._forward,
        )
        task = ray.remote(**self._remote)(_run)
        return _wait({task.remote(job): job for job in jobs})

    def _connect(self) -> None:
        import ray

        from codejoule.common.progress import doing
        from codejoule.config import UserError, python_path

        if ray.is_initialized():
            return
        doing("connecting to Ray")
        own = dict(self._init)
        # codejoule is imported before a job could say where it is.
        runtime = dict(own.pop("runtime_env", None) or {})
        runtime["env_vars"] = {**python_path(), **runtime.get("env_vars", {})}
        on_term = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(**own, runtime_env=runtime)
        except (ConnectionError, ValueError) as error:
            raise UserError(
                f"hydra/launcher=ray: {str(error).splitlines()[0]} Start a cluster (ray start "
                "--head here, ray start --address=HOST:6379 on each further node), name one that "
                "runs (hydra.launcher.init.address=HOST:6379), or let the sweep start one on this "
                "machine (hydra.launcher.init.address=local)"
            ) from error
        finally:
            # Ray takes it, and leaves a sweep without its summary.
            signal.signal(signal.SIGTERM, on_term)


def _run(job: RemoteJob) -> JobReturn:
    """The task."""
    import ray

    return job.run(str(ray.get_runtime_context().get_task_id()))


def _wait(jobs: Mapping[Any, RemoteJob]) -> list[JobReturn]:
    """Wait for all; in their order. An interrupt cancels them."""
    import ray

    left, returned = list(jobs), {}
    try:
        while left:
            _tell(left, len(jobs))
            ended, left = ray.wait(left, timeout=1.0)
            for task in ended:
                returned[task] = _returned(task, jobs[task])
    except KeyboardInterrupt as interrupt:
        _cancel(left, interrupt)
        raise
    return [returned[task] for task in jobs]


def _returned(task: Any, job: RemoteJob) -> JobReturn:
    import ray

    try:
        found: JobReturn = ray.get(task)
    except ray.exceptions.RayError as error:
        from codejoule.experiment.lost import lost_job

        words = [line for line in str(error).splitlines() if line.strip()]
        # The traceback of a job that failed ends with its error.
        said = words[-1] if isinstance(error, ray.exceptions.RayTaskError) else words[0]
        return lost_job(
            job.composed(task.hex()),
            f"Ray: {type(error).__name__}: {said} Finished batches are kept, and the same command "
            "continues after them",
        )
    return found


def _tell(left: Sequence[Any], jobs: int) -> None:
    from codejoule.common.progress import doing

    doing("waiting for Ray", f"{jobs - len(left)} of {jobs} jobs have ended")


def _cancel(left: Sequence[Any], interrupt: KeyboardInterrupt) -> None:
    """Interrupt what has not ended, and wait a little until it has kept what it can."""
    import ray

    from codejoule.common.progress import doing

    for task in left:
        ray.cancel(task)
    doing("waiting for the jobs of Ray to stop", f"{len(left)} jobs")
    until_s = time.monotonic() + _STOP_S
    running = list(left)
    while running and time.monotonic() < until_s:
        _, running = ray.wait(running, timeout=1.0)
    interrupt.add_note("what had not ended was cancelled, and its finished batches are kept")


def _plain(node: DictConfig) -> dict[str, Any]:
    found = OmegaConf.to_container(node, resolve=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}
