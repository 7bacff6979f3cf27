"""Hydra's basic sweeper, with checks before the first job and an order of its own."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore

from codejoule.config.compose import SweepComposer

if TYPE_CHECKING:
    from codejoule.config.schema import ExperimentConfig


@dataclass
class SweeperConfig:
    """Keys under ``hydra.sweeper``, as in Hydra's basic sweeper."""

    _target_: str = "hydra_plugins.codejoule_sweeper.sweeper.CheckedSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


ConfigStore.instance().store(
    group="hydra/sweeper", name="codejoule", node=SweeperConfig, provider="codejoule"
)


class CheckedSweeper(BasicSweeper):
    """Checks every job's configuration before any job starts, and shuffles on request."""

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        """Jobs of the next batch; at the first call all jobs are checked and ordered."""
        from codejoule.cli.plan import announce
        from codejoule.common.progress import doing
        from codejoule.experiment.job_log import output_in
        from codejoule.experiment.schedule import Schedule, set_schedule
        from codejoule.experiment.sweep import check_jobs, open_sweep

        assert self.config is not None and self.overrides is not None
        if self.batch_index == 0:
            given = [tuple(job) for batch in self.overrides for job in batch]
            doing("checking the jobs' configurations", f"{len(given)} jobs")
            with output_in(Path(self.config.hydra.sweep.dir) / "sweep.log"):  # it imports much
                experiments = dict(zip(given, check_jobs(self._compose, given), strict=True))
            self.overrides = self._ordered(self.overrides)
            doing("opening the store of runs")
            with output_in(Path(self.config.hydra.sweep.dir) / "sweep.log"):
                finished = self._skip_finished(experiments)
            open_sweep(self.config, jobs=len(given), finished=finished)
            if left := [tuple(job) for batch in self.overrides for job in batch]:
                doing("planning the sweep")
                set_schedule(Schedule(announce([experiments[job] for job in left])))
        return super().get_job_batch()

    def _skip_finished(
        self, experiments: "Mapping[tuple[str, ...], ExperimentConfig]"
    ) -> list[tuple[str, str]]:
        """Leave out the jobs that have finished before; their names and runs. Only jobs that run
        here are known: others may run on machines of another kind."""
        from codejoule.common.progress import say
        from codejoule.experiment.finished import finished_runs
        from codejoule.experiment.run import run_name

        if not isinstance(self.launcher, BasicLauncher):
            return []
        assert self.overrides is not None
        jobs = [tuple(job) for batch in self.overrides for job in batch]
        runs = finished_runs([experiments[job] for job in jobs])
        left = [list(job) for job, run_id in zip(jobs, runs, strict=True) if run_id is None]
        # Hydra asks for one batch at least.
        chunks = self.split_overrides_to_chunks(left, self.max_batch_size) if left else [[]]
        self.overrides = list(chunks)
        if len(left) < len(jobs):
            say(f"{len(jobs) - len(left)} of {len(jobs)} jobs have finished before: skipped.")
        return [
            (run_name(experiments[job]), run_id)
            for job, run_id in zip(jobs, runs, strict=True)
            if run_id is not None
        ]

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Done for all batches at once, before the first."""

    @cached_property
    def _compose(self) -> SweepComposer:
        assert self.hydra_context is not None and self.config is not None
        return SweepComposer(self.hydra_context.config_loader, self.config)

    def _ordered(
        self, batches: Sequence[Sequence[Sequence[str]]]
    ) -> Sequence[Sequence[Sequence[str]]]:
        assert self.config is not None
        if self.config.sweep.order.name != "shuffled":
            return batches
        jobs = [job for batch in batches for job in batch]
        random.Random(self.config.sweep.seed).shuffle(jobs)
        return list(
            self.split_overrides_to_chunks([list(job) for job in jobs], self.max_batch_size)
        )
