"""What Hydra composes: from schemas that stand outside the groups.

A schema inside a group would be listed among the group's choices; here it stands under
``schema/`` and each YAML extends it with ``- /schema/GROUP@_here_``.
"""

from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import get_type_hints

from omegaconf import OmegaConf

from codejoule.config.credentials import refuse_credentials_in
from codejoule.config.errors import ConfigError
from codejoule.config.explain import explain
from codejoule.config.groups import help_text
from codejoule.config.installation import conf_folder
from codejoule.config.schema import ExperimentConfig
from codejoule.config.typed import to_experiment


def register_schemas() -> None:
    """Make every schema known to Hydra as ``/schema/NAME``, and the list of groups to its
    ``--help``; may be called repeatedly."""
    from hydra.core.config_store import ConfigStore

    OmegaConf.register_new_resolver("codejoule.groups", help_text, replace=True)
    store = ConfigStore.instance()
    for name, node in {"config": ExperimentConfig, **get_type_hints(ExperimentConfig)}.items():
        if is_dataclass(node):
            store.store(group="schema", name=name, node=node, provider="codejoule")


def compose_experiment(overrides: Sequence[str]) -> ExperimentConfig:
    """Compose, convert and check; raises `ConfigError` in the words of a job's errors."""
    from hydra import compose, initialize_config_dir
    from hydra.core.override_parser.overrides_parser import OverridesParser

    register_schemas()
    refuse_credentials_in(overrides)
    try:
        for override in OverridesParser.create().parse_overrides(list(overrides)):
            if override.is_sweep_override():
                raise ConfigError(
                    f"{override.input_line}: several values are a sweep; one configuration is "
                    "needed here"
                )
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            composed = compose("config", overrides=list(overrides), return_hydra_config=True)
            return to_experiment(composed)
    except Exception as error:
        text = explain(error, overrides)
        if text is None:
            raise
        raise ConfigError(text) from error


def compose_sweep(overrides: Sequence[str]) -> list[ExperimentConfig]:
    """The jobs of ``codejoule run -m`` with these arguments, those of a preset among them.
    Raises `ConfigError` in the words of a job's errors, and for a sweeper that chooses its jobs as
    it goes."""
    from hydra import initialize_config_dir
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.types import RunMode

    register_schemas()
    refuse_credentials_in(overrides)
    job = list(overrides)
    try:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            sweep = loader.load_configuration("config", job, run_mode=RunMode.MULTIRUN)
            sweeper = sweep.hydra.sweeper
            if not sweeper._target_.startswith("hydra_plugins.codejoule_sweeper.sweeper."):
                raise ConfigError(
                    f"hydra/sweeper={sweep.hydra.runtime.choices['hydra/sweeper']}: it chooses its "
                    "jobs as it goes, so there is no plan of them; leave it out to plan the whole "
                    "grid"
                )
            params = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
            parsed = OverridesParser.create(config_loader=loader).parse_overrides(
                [*params, *sweep.hydra.overrides.task]
            )
            experiments = []
            for job in BasicSweeper.split_arguments(parsed, None)[0]:
                experiments.append(to_experiment(loader.load_sweep_config(sweep, job)))
            return experiments
    except Exception as error:
        text = explain(error, job)
        if text is None:
            raise
        raise ConfigError(text) from error
