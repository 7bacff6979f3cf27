"""The tokenizer of a checkpoint, and what else of it a run on a server needs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.config.schema import ModelConfig
from codejoule.models.byte_tokenizer import byte_tokenizer
from codejoule.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(checkpoint: Checkpoint, model: ModelConfig) -> "PreTrainedTokenizerBase":
    """The tokenizer that `load_model` would give the model."""
    if checkpoint.path is None:
        return byte_tokenizer(model.architecture["vocab_size"])
    return tokenizer_in(checkpoint.path)


def tokenizer_in(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer in `folder`, padding on the left, with a padding token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", local_files_only=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def end_token_owners(checkpoint: Checkpoint) -> list[Any]:
    """The checkpoint's configs that name end tokens; none for random weights."""
    from transformers import AutoConfig, GenerationConfig

    folder = checkpoint.path
    if folder is None:
        return []
    owners: list[Any] = [AutoConfig.from_pretrained(folder, local_files_only=True)]
    if (folder / "generation_config.json").exists():
        owners.insert(0, GenerationConfig.from_pretrained(folder, local_files_only=True))
    return owners
