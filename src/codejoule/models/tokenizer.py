"""The tokenizer of a checkpoint, and what else of it a run on a server needs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.config import UserError, first_line
from codejoule.config.schema import ModelConfig
from codejoule.models.byte_tokenizer import byte_tokenizer
from codejoule.models.checkpoint import Checkpoint
from codejoule.models.folder import folder_config, generation_defaults, no_code

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(checkpoint: Checkpoint, model: ModelConfig) -> "PreTrainedTokenizerBase":
    """The tokenizer that `load_model` would give the model.

    Of weights that are quantized here it is the unquantized ones': what is quantized may not be
    there yet.
    """
    folder = checkpoint.base_path or checkpoint.path
    if folder is None:
        return byte_tokenizer(model.architecture["vocab_size"])
    return tokenizer_in(folder)


def tokenizer_in(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer in `folder`, padding on the left, with a padding token.

    Raises `UserError` where the folder has none, or one that cannot be read without code of the
    folder, and what `folder_config` raises.
    """
    from transformers import AutoTokenizer

    folder_config(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, padding_side="left", local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        # Each tokenizer's reader has errors of its own for files that it cannot read.
        raise UserError(
            f"{folder}: its tokenizer cannot be read ({type(error).__name__}: {first_line(error)})"
            f"{no_code(folder / 'tokenizer_config.json')}; download its files again"
        ) from error
    files = {"tokenizer.json", *tokenizer.vocab_files_names.values()}
    if not any((folder / name).exists() for name in files):
        raise UserError(
            f"{folder}: holds no tokenizer (none of {', '.join(sorted(files))}); save the model's "
            "own beside the weights with its save_pretrained, or download its files"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def end_token_owners(checkpoint: Checkpoint) -> list[Any]:
    """The checkpoint's configs that name end tokens; none for random weights."""
    folder = checkpoint.path
    if folder is None:
        return []
    return [owner for owner in (generation_defaults(folder), folder_config(folder)) if owner]
