"""What Hydra composes: from schemas that stand outside the groups.

A schema inside a group would be listed among the group's choices; here it stands under
``schema/`` and each YAML extends it with ``- /schema/GROUP@_here_``.
"""

import pickle
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from codejoule.config.credentials import refuse_credentials_in
from codejoule.config.errors import ConfigError
from codejoule.config.explain import explain
from codejoule.config.groups import help_text
from codejoule.config.installation import conf_folder
from codejoule.config.schema import ExperimentConfig
from codejoule.config.typed import to_experiment

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.override_parser.types import Override


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
            compose = SweepComposer(loader, sweep)
            params = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
            parsed = OverridesParser.create(config_loader=loader).parse_overrides(
                [*params, *sweep.hydra.overrides.task]
            )
            experiments = []
            for job in BasicSweeper.split_arguments(parsed, None)[0]:
                experiments.append(to_experiment(compose(job)))
            return experiments
    except Exception as error:
        text = explain(error, job)
        if text is None:
            raise
        raise ConfigError(text) from error


class SweepComposer:
    """Composes the jobs of a sweep as Hydra does, for what is done before they are launched. Jobs
    that choose alike from all groups, and differ in single values, are composed once: Hydra sets
    such values last, into what the choices have composed to."""

    def __init__(self, loader: "ConfigLoader", sweep: DictConfig) -> None:
        """`sweep` is its configuration, that of no job."""
        self._loader = loader
        self._sweep = sweep
        self._groups = set(loader.list_groups(""))
        self._parsed: dict[str, Override] = {}
        self._composed: dict[tuple[str, ...], bytes] = {}

    def __call__(self, job: Sequence[str]) -> DictConfig:
        """The configuration of the job with these overrides; ``hydra.job`` may be that of another.
        Raises Hydra's errors."""
        values = [override for override in job if self._is_value(override)]
        choices = tuple(override for override in job if override not in values)
        if any(not self._is_choice(override) for override in choices):
            return self._loader.load_sweep_config(self._sweep, list(job))
        if choices not in self._composed:
            composed = self._loader.load_sweep_config(self._sweep, list(choices))
            self._composed[choices] = pickle.dumps(composed)
        # A sixth of the time of `copy.deepcopy`.
        config: DictConfig = pickle.loads(self._composed[choices])
        try:
            for each in map(self._parse, values):
                OmegaConf.update(config, each.key_or_group, each.value(), merge=True)
        except OmegaConfBaseException:
            # It tells what is wrong in its own words.
            return self._loader.load_sweep_config(self._sweep, list(job))
        config.hydra.overrides.task = list(job)
        return config

    def _parse(self, text: str) -> "Override":
        from hydra.core.override_parser.overrides_parser import OverridesParser

        if text not in self._parsed:
            (self._parsed[text],) = OverridesParser.create().parse_overrides([text])
        return self._parsed[text]

    def _is_value(self, text: str) -> bool:
        """Whether it sets one value of ours that no defaults list can depend on."""
        override = self._parse(text)
        return (
            self._is_plain(override)
            and override.key_or_group not in self._groups
            and not override.key_or_group.startswith("hydra")
            and not isinstance(override.value(), dict)
        )

    def _is_choice(self, text: str) -> bool:
        override = self._parse(text)
        return self._is_plain(override) and override.key_or_group in self._groups

    @staticmethod
    def _is_plain(override: "Override") -> bool:
        """Whether it is neither ``+key``, ``++key`` nor ``~key``, and is of no package."""
        from hydra.core.override_parser.types import OverrideType

        plain: bool = override.type is OverrideType.CHANGE and override.package is None
        return plain and "/" not in override.key_or_group
