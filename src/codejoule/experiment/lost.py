"""Jobs of a sweep that ended without a word, such as those that were killed on another machine."""

from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, open_dict

from codejoule.config.typed import to_experiment
from codejoule.experiment.run import run_name
from codejoule.experiment.sweep import Outcome, State, current_sweep


def lost_job(config: DictConfig, why: str) -> JobReturn:
    """What a launcher returns for a job of which it has no result. The job counts as failed, and
    `why` is told in the sweep's summary, unless it has left word of its end before. `config` is the
    job's, with its number."""
    sweep = current_sweep()
    assert sweep is not None
    folder = Path(config.hydra.sweep.dir, config.hydra.sweep.subdir)
    if Outcome.load(folder, sweep.run_id) is None:
        name = run_name(to_experiment(config))
        folder.mkdir(parents=True, exist_ok=True)
        Outcome(name=name, state=State.failed, sweep=sweep.run_id, error=why).save(folder)
    with open_dict(config.hydra.runtime):
        config.hydra.runtime.output_dir = str(folder)
    # As of a job that failed and said so: the summary makes it the sweep's exit code.
    return JobReturn(status=JobStatus.COMPLETED, _return_value=None, cfg=config, hydra_cfg=config)
