"""A job's configuration, composed as ``python src/main.py`` composes it."""

from collections.abc import Sequence

from codejoule.config import ConfigError, project_root
from codejoule.config.schema import ExperimentConfig

_CONF = project_root() / "conf"


def compose_experiment(overrides: Sequence[str]) -> ExperimentConfig:
    """Compose, convert and check; raises `ConfigError` in the words of a job's errors."""
    from hydra import compose, initialize_config_dir
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from codejoule.config.credentials import refuse_credentials_in
    from codejoule.config.explain import explain
    from codejoule.config.store import register_schemas
    from codejoule.config.typed import to_experiment

    register_schemas()
    refuse_credentials_in(overrides)
    try:
        for override in OverridesParser.create().parse_overrides(list(overrides)):
            if override.is_sweep_override():
                raise ConfigError(
                    f"{override.input_line}: several values are a sweep; codejoule estimate "
                    "predicts one configuration, so call it once for each"
                )
        with initialize_config_dir(str(_CONF), version_base="1.3"):
            composed = compose("config", overrides=list(overrides), return_hydra_config=True)
            return to_experiment(composed)
    except Exception as error:
        text = explain(error, overrides)
        if text is None:
            raise
        raise ConfigError(text) from error
