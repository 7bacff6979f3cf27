"""Registers the schemas with Hydra, outside the groups.

A schema inside a group would be listed among the group's choices; here it stands under
``schema/`` and each YAML extends it with ``- /schema/GROUP@_here_``.
"""

from dataclasses import is_dataclass
from typing import get_type_hints

from codejoule.config.schema import ExperimentConfig

_NO_GROUPS = ("sweep", "carbon", "cost")
"""Parts of a configuration that have no files of their own."""


def register_schemas() -> None:
    """Make every schema known to Hydra as ``/schema/NAME``; may be called repeatedly."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for name, node in {"config": ExperimentConfig, **get_type_hints(ExperimentConfig)}.items():
        if is_dataclass(node) and name not in _NO_GROUPS:
            store.store(group="schema", name=name, node=node, provider="codejoule")
