"""One job of Hydra's: from its DictConfig to an outcome on disk."""

import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from codejoule.config.explain import explain
from codejoule.config.typed import to_experiment
from codejoule.experiment.run import RunFailedError, run, run_name
from codejoule.experiment.sweep import Outcome, State, Summary, check_rooms, current_sweep

_log = logging.getLogger(__name__)


def run_job(config: DictConfig) -> Summary | None:
    """Run one configuration. In a sweep a failure is logged and left in its outcome on disk, so
    that the other jobs still run under every launcher; the entry script sums up and exits non-zero.
    A job by itself raises, or returns its summary."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    experiment = to_experiment(config, hydra)
    sweep = current_sweep()
    try:
        check_rooms(experiment)
        outcome = run(experiment, sweep=sweep)
    except Exception as error:
        if sweep is None:
            raise
        cause = error.__cause__ if isinstance(error, RunFailedError) else error
        assert cause is not None
        text = explain(cause, hydra.overrides.task)
        name = run_name(experiment)
        if text is None:
            _log.exception("%s failed", name)
            text = f"{type(cause).__name__}: {cause}"
        else:
            # Why, the entry script tells with the other failures, and once.
            _log.error("%s failed", name)
        run_id = error.run_id if isinstance(error, RunFailedError) else None
        outcome = Outcome(
            name=name, state=State.failed, sweep=sweep.run_id, run_id=run_id, error=text
        )
    outcome.save(folder)
    if sweep is not None:
        return None
    return Summary(run_id=None, jobs=1, tracking=experiment.tracking, outcomes=(outcome,))
