"""``hydra/sweeper=resolve``: runs more tasks only of the configurations still in question."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from omegaconf import OmegaConf

from hydra_plugins.codejoule_sweeper.sweeper import CheckedSweeper


@dataclass
class ResolveConfig:
    """Keys under ``hydra.sweeper``; docs/reference/sweeps.md says what each does."""

    _target_: str = "hydra_plugins.codejoule_sweeper.resolve.ResolveSweeper"
    max_batch_size: int | None = 1
    params: dict[str, str] | None = None
    goal: str = "front"
    min_pass_at_1: float | None = None
    max_kwh: float | None = None
    margin: float = 0.02
    energy_margin: float = 0.02
    first: int = 32
    growth: float = 1.3
    repeats: int = 3
    run_sd: float | None = None
    budget_kwh: float | None = None
    budget_s: float | None = None
    jobs: int | None = None


ConfigStore.instance().store(
    group="hydra/sweeper", name="resolve", node=ResolveConfig, provider="codejoule"
)


class ResolveSweeper(CheckedSweeper):
    """Asks `codejoule.cli.resolve` for jobs and launches them until the goal is decided."""

    def __init__(
        self, max_batch_size: int | None, params: dict[str, str] | None = None, **options: Any
    ) -> None:
        super().__init__(max_batch_size, params)
        self.options = options

    def sweep(self, arguments: list[str]) -> Any:
        """Check every configuration, then launch jobs in the order of what they tell."""
        from codejoule.cli.resolve import Options, Resolver
        from codejoule.common.progress import doing
        from codejoule.experiment.job_log import output_in
        from codejoule.experiment.sweep import (
            Outcome,
            answer_sweep,
            check_jobs,
            current_sweep,
            open_sweep,
        )

        assert self.config is not None and self.hydra_context is not None and self.launcher
        options = Options.of(self.options)
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        space = self._space(arguments)
        doing("checking the configurations", f"{len(space)} of them")
        with output_in(folder / "sweep.log"):  # it imports much
            experiments = check_jobs(self._compose, space)
        resolver = Resolver(
            experiments,
            space,
            options,
            one_process=isinstance(self.launcher, BasicLauncher),
        )
        open_sweep(self.config, jobs=None)
        sweep = current_sweep()
        assert sweep is not None
        returns: list[Sequence[JobReturn]] = []
        while batch := resolver.next(self.max_batch_size):
            returns.append(self.launcher.launch(batch, initial_job_idx=sum(map(len, returns))))
            resolver.tell([Outcome.load(_folder(done), sweep.run_id) for done in returns[-1]])
        answer_sweep(resolver.sentence())
        return returns

    def _space(self, arguments: list[str]) -> Sequence[Sequence[str]]:
        from hydra.core.override_parser.overrides_parser import OverridesParser

        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        return self.split_arguments(overrides, None)[0]


def _folder(done: JobReturn) -> Path:
    assert done.hydra_cfg is not None
    return Path(done.hydra_cfg.hydra.runtime.output_dir)
