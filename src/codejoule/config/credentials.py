"""Passwords and tokens have no place in a configuration: it is written to files and to MLflow."""

import re
from collections.abc import Iterable

from codejoule.config.errors import ConfigError

_KEY = re.compile(
    r"(?:^|[._-])(?:api[_-]?key|access[_-]?key|token|passwd|password|secret|credentials?)$", re.I
)
_VALUE = re.compile(
    r"://\S*@"  # http://user:password@host, the password perhaps with a / in it
    r"|[?&;](?:\w*[_-])?(?:key|apikey|token|sig|signature|auth|passwd|password|pwd|secret)=[^&\s]"
    r"|\b(?:hf_|sk-|ghp_|glpat-)\w{16}",
    re.I,
)
_REMEDY = (
    "a password, token or key, which would be written to files and to MLflow with the "
    "configuration (and is not repeated here); leave it out and set the environment's variables "
    "instead: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, for "
    "a tracking server (MLFLOW_TRACKING_URI must hold none either), HF_TOKEN for the hub"
)


def refuse_credentials(settings: Iterable[tuple[str, object]]) -> None:
    """Raise `ConfigError` where a setting, ``tracking.uri`` and its value, holds a credential."""
    for key, value in settings:
        text = "" if value is None else str(value)
        # A variable's name is no secret; Hydra writes it down as it stands.
        named = _KEY.search(key) and text not in ("", "null") and not text.startswith("${")
        if named or _VALUE.search(text):
            raise ConfigError(f"{key}: holds {_REMEDY}")


def refuse_credentials_in(overrides: Iterable[str]) -> None:
    """The same for overrides, ``tracking.uri=http://...``, and for options with a value."""
    refuse_credentials((key, value) for key, _, value in (o.partition("=") for o in overrides))
