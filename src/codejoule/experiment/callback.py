"""Hydra callback that gives every sweep its parent run, whichever sweeper runs it."""

import sys
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from codejoule.common.display import Display
from codejoule.common.progress import doing, watcher
from codejoule.config.schema import ProgressMode


class SweepCallback(Callback):
    """Opens the parent run of a sweep before its first job. codejoule's own sweeper opens it later,
    after all jobs are checked; the entry script closes it, because Hydra does not call
    ``on_multirun_end`` when a sweep fails."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra before it writes a job's configuration to files."""
        _refuse_credentials(config)
        _show_progress(config)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra once per sweep."""
        from codejoule.experiment.sweep import open_sweep

        _refuse_credentials(config)
        _show_progress(config)
        if "codejoule_sweeper" not in config.hydra.sweeper._target_:
            open_sweep(config, jobs=None)


def _show_progress(config: DictConfig) -> None:
    """From here on the configuration decides what the terminal shows."""
    display = watcher()
    if isinstance(display, Display):
        display.mode = config.get("progress", ProgressMode.auto)
    doing("importing libraries")


def _refuse_credentials(config: DictConfig) -> None:
    """End the process: Hydra 1.3 goes on, and writes files, where a callback raises an error."""
    from omegaconf import OmegaConf

    from codejoule.config import ConfigError
    from codejoule.config.credentials import refuse_credentials
    from codejoule.config.relevance import flat

    # Unresolved, as Hydra writes it.
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    try:
        refuse_credentials(flat({str(key): value for key, value in plain.items()}).items())
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
