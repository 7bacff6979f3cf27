"""What Hydra composes: from schemas that stand outside the groups.

A schema inside a group would be listed among the group's choices; here it stands under
``schema/`` and each YAML extends it with ``- /schema/GROUP@_here_``.
"""

from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import get_type_hints

from codejoule.config.credentials import refuse_credentials_in
from codejoule.config.errors import ConfigError
from codejoule.config.explain import explain
from codejoule.config.installation import project_root
from codejoule.config.schema import ExperimentConfig
from codejoule.config.typed import to_experiment


def register_schemas() -> None:
    """Make every schema known to Hydra as ``/schema/NAME``; may be called repeatedly."""
    from hydra.core.config_store import ConfigStore

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
                    f"{override.input_line}: several values are a sweep; codejoule estimate "
                    "predicts one configuration, so call it once for each"
                )
        with initialize_config_dir(str(project_root() / "conf"), version_base="1.3"):
            composed = compose("config", overrides=list(overrides), return_hydra_config=True)
            return to_experiment(composed)
    except Exception as error:
        text = explain(error, overrides)
        if text is None:
            raise
        raise ConfigError(text) from error
