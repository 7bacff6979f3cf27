"""Hydra entry point: ``python src/main.py [-m] model=... quant=... batch=...``."""

import sys

import hydra
from omegaconf import DictConfig

from codejoule.cli.launch import launch
from codejoule.config.compose import register_schemas

register_schemas()


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
def main(config: DictConfig) -> object:
    """Run one job of a (possibly one-job) sweep, and return what it shall be optimised for."""
    from codejoule.cli.summary import print_summary
    from codejoule.experiment.run import run_job
    from codejoule.experiment.sweep import Summary

    found = run_job(config)
    if not isinstance(found, Summary):
        return found
    print_summary(found)
    return None


if __name__ == "__main__":
    sys.exit(launch(main))
