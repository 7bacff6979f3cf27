"""The tokenizer of a checkpoint or of random weights, and who names a checkpoint's end tokens."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.config import ConfigError, UserError, first_line
from codejoule.config.schema import ModelConfig
from codejoule.models.checkpoint import Checkpoint
from codejoule.models.folder import folder_config, generation_defaults, no_code

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_END = "<|endoftext|>"
_TURN, _TURN_END = "<|im_start|>", "<|im_end|>"
_CHAT = (
    "{% for message in messages %}"
    f"{_TURN}{{{{ message['role'] }}}}\n{{{{ message['content'] }}}}{_TURN_END}\n"
    "{% endfor %}"
    f"{{% if add_generation_prompt %}}{_TURN}assistant\n{{% endif %}}"
)


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


def byte_tokenizer(vocab_size: int) -> "PreTrainedTokenizerBase":
    """Bytes as tokens 0 to 255, an end-of-text token and two chat tokens after them.

    A prompt has about four times the tokens that the model's own tokenizer would give it.
    Raises `ConfigError` where the model's vocabulary is too small.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = (_END, _TURN, _TURN_END)
    if vocab_size < len(alphabet) + len(special):
        raise ConfigError(
            f"model.architecture.vocab_size={vocab_size}: random weights use a byte tokenizer "
            f"of {len(alphabet) + len(special)} tokens; the vocabulary must hold them"
        )
    vocabulary = {symbol: number for number, symbol in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=_END,
        pad_token=_END,
        additional_special_tokens=[_TURN, _TURN_END],
        chat_template=_CHAT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def end_token_owners(checkpoint: Checkpoint) -> list[Any]:
    """The checkpoint's configs that name end tokens; none for random weights."""
    folder = checkpoint.path
    if folder is None:
        return []
    return [owner for owner in (generation_defaults(folder), folder_config(folder)) if owner]
