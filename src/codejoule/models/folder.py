"""What a checkpoint's folder says of itself, read without loading it; no code of it is ever run."""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.config import ConfigError
from codejoule.domain.architecture import refuse_other_kinds, routed_experts
from codejoule.models.compat import attention_of
from codejoule.models.declared import declared_quantization

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PretrainedConfig

DECODER = ".layers."
"""Part of the path of everything in a decoder's blocks."""
MANIFEST = "codejoule.json"
"""What codejoule writes beside weights that it has made."""
INDEX = "model.safetensors.index.json"
QUANTIZATION_FILES = ("quantize_config.json", "quant_config.json")
"""Where quantizers keep what newer ones write into ``config.json``, too."""
KEPT_FILES = (
    "tokenizer*", "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json",
    "chat_template*", "generation_config.json",
)  # fmt: skip
"""Files beside the weights that stay as they are when weights are made of them."""
_PARTS = ("qweight", "qzeros", "scales", "g_idx", "bias", "weight")
_EXPERT = re.compile(r"(.*\.experts\.)\d+(\..*)")


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's ``config.json``; raises `ConfigError` where it cannot be read or understood, and
    where the quantization stands in another file alone."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{file}: cannot be read ({error}); a checkpoint's folder holds config.json, "
            "*.safetensors and the tokenizer's files"
        ) from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise ConfigError(f"{file}: names no model_type; it is not a transformers checkpoint")
    try:
        declared = declared_quantization(config)
    except ValueError as error:
        raise ConfigError(f"{folder}: {error}") from error
    apart = [name for name in QUANTIZATION_FILES if (folder / name).exists()]
    if apart and declared is None:
        raise ConfigError(
            f"{folder}: its quantization stands in {apart[0]} alone, where transformers does not "
            "look; make that the quantization_config of config.json"
        )
    return config


def decoder_config(folder: Path) -> dict[str, Any]:
    """The same of a model that is computed here; refuses other kinds, too (`ConfigError`)."""
    config = read_config(folder)
    try:
        refuse_other_kinds(config)
    except ValueError as error:
        raise ConfigError(f"{folder}: {error}") from error
    return config


def weight_files(folder: Path) -> list[Path]:
    """The folder's safetensors files, sorted; empty where any of them is missing."""
    index = folder / INDEX
    if not index.exists():
        return sorted(folder.glob("*.safetensors"))
    names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    files = sorted(folder / name for name in names)
    return files if all(file.exists() for file in files) else []


def missing_experts(folder: Path, config: dict[str, Any]) -> list[str]:
    """Tensors that some experts of a layer have in `folder`, and others lack."""
    from safetensors import safe_open

    number = routed_experts(config)
    names: set[str] = set()
    for file in weight_files(folder):
        with safe_open(file, framework="np") as tensors:
            names.update(tensors.keys())
    parts = {match.group(1, 2) for name in names if (match := _EXPERT.fullmatch(name))}
    wanted = {f"{before}{expert}{after}" for before, after in parts for expert in range(number)}
    return sorted(wanted - names)


def move_whole(work: Path, target: Path) -> None:
    """Give a finished folder its name, unless another job has made the same one meanwhile."""
    try:
        work.rename(target)
    except OSError:
        if not (target / MANIFEST).exists():
            raise


def has_experts(config: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` describes a mixture of experts."""
    return routed_experts(config) > 0


def read_tensors(
    folder: Path, layers: Collection[str], *, parts: Sequence[str] = _PARTS
) -> dict[str, dict[str, "torch.Tensor"]]:
    """These parts of these layers as the folder's files hold them, by layer and name."""
    from safetensors import safe_open

    wanted = {f"{layer}.{part}": (layer, part) for layer in layers for part in parts}
    found: dict[str, dict[str, torch.Tensor]] = {layer: {} for layer in layers}
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            for name in wanted.keys() & set(tensors.keys()):
                layer, part = wanted[name]
                found[layer][part] = tensors.get_tensor(name)
    return found


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
    attention = attention_of(config)
    if "/" in attention:
        raise ConfigError(
            f"{folder}/config.json: attn_implementation={attention} names code on the hub, and "
            "codejoule runs no code that a model names; remove the field"
        )
    return config


def has_tokenizer(folder: Path) -> bool:
    """Whether any file of a tokenizer is in `folder`."""
    return any(True for kind in ("tokenizer*", "vocab*") for _ in folder.glob(kind))


def has_chat_template(folder: Path) -> bool:
    """Whether the tokenizer of `folder` puts messages into a chat, as instruct models' do."""
    if (folder / "chat_template.jinja").exists() or (folder / "chat_template.json").exists():
        return True
    file = folder / "tokenizer_config.json"
    if not file.exists():
        return False
    fields = json.loads(file.read_text(encoding="utf-8"))
    return isinstance(fields, dict) and bool(fields.get("chat_template"))


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
