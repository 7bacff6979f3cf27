"""Facts of a model whose weights are not those of the preset that it was composed from."""

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from codejoule.config.errors import ConfigError
from codejoule.config.own_model import name_of
from codejoule.config.schema import ModelConfig, Weights
from codejoule.domain import Architecture


def with_own_facts(
    model: ModelConfig, preset: ModelConfig, *, written: Collection[str], taken: Collection[str]
) -> ModelConfig:
    """`model` without what `preset` says of other weights than these. Its name is then that of its
    folder or repository, its variant what the tokenizer tells, its architecture what
    ``config.json`` says, and no published checkpoint or thread count is known. What the user wrote
    stands: the keys in `written` (``model.name``), and whatever differs from the preset. Weights of
    a folder are the preset's if their architecture is: people download them. So are those of
    another revision. Raises `ConfigError` where the name would be one of the presets (`taken`), and
    for a repository that is not read."""
    if model.weights is not Weights.hub and model.id != preset.id:
        raise ConfigError(
            f"model.id={model.id}: used only with model.weights=hub, but "
            f"model.weights={model.weights.name}; add model.weights=hub or drop model.id"
        )
    if _same_weights(model, preset):
        return model

    def own(key: str, fact: Any) -> Any:
        value = getattr(model, key)
        said = f"model.{key}" in written or value != getattr(preset, key)
        return value if said else fact

    name = own("name", None)
    if name is None:
        name = _name(model)
        if name in taken:
            place = f"id={model.id}" if model.weights is Weights.hub else f"path={model.path}"
            raise ConfigError(
                f"model.{place}: is named like the preset {name}, and would be recorded "
                "as if it were that; name it: model.name=..."
            )
    return replace(
        model,
        name=name,
        id=model.id if model.weights is Weights.hub else None,
        revision=own("revision", "main"),
        variant=own("variant", None),
        cpu_threads=own("cpu_threads", None),
        quantized={k: v for k, v in model.quantized.items() if preset.quantized.get(k) != v},
        architecture={},
        license=own("license", None),
        gated=own("gated", False),
    )


def _same_weights(model: ModelConfig, preset: ModelConfig) -> bool:
    """Whether they are the preset's, as far as can be told; so if nothing says which they are."""
    if model.weights is Weights.hub:
        return model.id is None or model.id == preset.id
    if model.weights is not Weights.local or model.path in (None, preset.path):
        return True
    assert model.path is not None
    return _is_of(Path(model.path).expanduser() / "config.json", preset.architecture)


def _is_of(file: Path, architecture: dict[str, Any]) -> bool:
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        there, on_file = map(Architecture.from_config, (fields, architecture))
    except (OSError, ValueError, TypeError, AttributeError):
        # Not there, no JSON or of an unknown family: whoever loads it says so.
        return False
    return replace(there, dtype=None) == replace(on_file, dtype=None)


def _name(model: ModelConfig) -> str:
    if model.weights is Weights.hub:
        assert model.id is not None
        return model.id.rpartition("/")[2]
    assert model.path is not None
    return name_of(Path(model.path).expanduser())
