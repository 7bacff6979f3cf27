"""transformers' config of a checkpoint's folder; no code of the folder is ever run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from codejoule.config import ConfigError
from codejoule.models.declared import read_config

if TYPE_CHECKING:
    from transformers import GenerationConfig, PretrainedConfig


def folder_config(folder: Path) -> "PretrainedConfig":
    """The config in `folder`, of an architecture that transformers itself has.

    Raises `ConfigError` for another architecture, for attention from elsewhere, and for values
    that transformers refuses.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    kind = read_config(folder)["model_type"]
    if kind not in CONFIG_MAPPING:
        raise ConfigError(
            f"{folder}: transformers has no architecture of model_type={kind!r}"
            f"{no_code(folder / 'config.json')}; install a transformers that has it, or choose "
            "another model"
        )
    with _refusals(folder / "config.json"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    attention = str(getattr(config, "_attn_implementation", None))
    if "/" in attention:
        raise ConfigError(
            f"{folder}/config.json: attn_implementation={attention} names code on the hub, and "
            "codejoule runs no code that a model names; remove the field"
        )
    return config


def generation_defaults(folder: Path) -> "GenerationConfig | None":
    """The folder's ``generation_config.json``; None without. Raises `ConfigError`."""
    from transformers import GenerationConfig

    file = folder / "generation_config.json"
    if not file.exists():
        return None
    with _refusals(file):
        return GenerationConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )


@contextmanager
def _refusals(file: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Validation of a field raises errors of its library, and what a wrong value leads to.
        text = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{file}: transformers refuses it ({text})") from error


def no_code(file: Path) -> str:
    """What to add to a message about a folder, where its JSON `file` names code of the folder."""
    if not file.exists() or '"auto_map"' not in file.read_text(encoding="utf-8", errors="replace"):
        return ""
    return f"; {file.name} names code of its own (auto_map), and codejoule runs none"
