"""What is known of a model before its weights are loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codejoule.config.schema import ModelConfig, QuantConfig
from codejoule.models.checkpoint import Checkpoint
from codejoule.models.declared import read_config
from codejoule.models.dtype import dtype_in_force
from codejoule.models.group_size import with_group_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A model as its files say it is."""

    config: Mapping[str, Any]
    """Its ``config.json``."""
    quant: QuantConfig
    """How it will be quantized, with the group size in force."""
    dtype: str
    """The dtype that it will be loaded in."""


def describe_model(
    checkpoint: Checkpoint, model: ModelConfig, quant: QuantConfig, *, device: str
) -> Description:
    """Read what `load_model` will load on `device`; no torch."""
    config: Mapping[str, Any] = model.architecture
    if checkpoint.path is not None:
        there = (checkpoint.path / "config.json").exists()
        folder = checkpoint.path if there else checkpoint.base_path
        assert folder is not None
        config = read_config(folder)
    own = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return Description(
        config=config,
        quant=with_group_size(quant, config),
        dtype=dtype_in_force(model, quant, device=device, own=own),
    )
