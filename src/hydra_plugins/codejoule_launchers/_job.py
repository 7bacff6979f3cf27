"""One job of a sweep, as a launcher sends it to another machine."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

_FORWARDED = ("CODEJOULE_",)


def forwarded(prefixes: Sequence[str] = _FORWARDED) -> dict[str, str]:
    """The variables of this environment that a job needs wherever it runs: the sweep that it
    belongs to is one of them."""
    return {key: value for key, value in os.environ.items() if key.startswith(tuple(prefixes))}


@dataclass(kw_only=True)
class RemoteJob:
    """A job, to be pickled, and called where it shall run."""

    hydra_context: HydraContext
    """Hydra's, for composing and callbacks."""
    task_function: TaskFunction
    """What Hydra runs."""
    config: DictConfig
    """The sweep's."""
    overrides: Sequence[str]
    """The job's."""
    number: int
    """The job's, in the sweep."""
    environment: Mapping[str, str] = field(default_factory=forwarded)
    """Variables that are set there."""
    folder: str = field(default_factory=os.getcwd)
    """Working folder of the sweep, which paths are relative to."""
    _state: Any = field(default_factory=Singleton.get_state)

    def composed(self, job_id: str) -> DictConfig:
        """The job's configuration. Raises what Hydra raises."""
        config = self.hydra_context.config_loader.load_sweep_config(
            self.config, list(self.overrides)
        )
        with open_dict(config.hydra.job):
            config.hydra.job.id = job_id
            config.hydra.job.num = self.number
        return config

    def run(self, job_id: str) -> JobReturn:
        """Run it here. Raises `UserError` where this machine lacks the sweep's folder."""
        from codejoule.config import UserError

        os.environ.update(self.environment)
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise UserError(
                f"{self.folder}: {error.strerror} on {socket.gethostname()}. A sweep over several "
                "machines is started in a folder that all of them share under this name"
            ) from error
        Singleton.set_state(self._state)
        setup_globals()
        return run_job(
            hydra_context=self.hydra_context,
            task_function=self.task_function,
            config=self.composed(job_id),
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )


def remote_jobs(
    hydra_context: HydraContext,
    task_function: TaskFunction,
    config: DictConfig,
    overrides: Sequence[Sequence[str]],
    first: int,
    *,
    forward: Sequence[str] = _FORWARDED,
) -> list[RemoteJob]:
    """The jobs with these `overrides`, which Hydra gives a launcher with the number of the `first`.
    Variables of this environment whose names begin with one of `forward` are set there."""
    return [
        RemoteJob(
            hydra_context=hydra_context,
            task_function=task_function,
            config=config,
            overrides=list(own),
            number=number,
            environment=forwarded(forward),
        )
        for number, own in enumerate(overrides, start=first)
    ]


def settle_sweep_folder(config: DictConfig) -> Path:
    """Make the sweep's folder, and its name absolute."""
    folder = Path(str(config.hydra.sweep.dir)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with read_write(config), open_dict(config):
        config.hydra.sweep.dir = str(folder)
    return folder
