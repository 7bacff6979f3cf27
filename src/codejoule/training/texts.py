"""Texts that a model is trained with."""

from dataclasses import dataclass
from pathlib import Path

from codejoule.common.files import parse_row, read_lines
from codejoule.config import ConfigError

_NEED = 'a line has {"text": ...}, or {"prompt": ..., "completion": ...}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One text. The loss counts the tokens of the completion, and the end that follows them."""

    prompt: str
    """What is given; empty for a text that is learnt as a whole."""
    completion: str
    """What is to be learnt."""
    add_special_tokens: bool = True
    """Whether the tokenizer's own first tokens come before the prompt."""


def read_examples(path: Path) -> list[Example]:
    """The texts in a JSONL file, at least one. Raises `ConfigError` naming file and line for what
    is none."""
    if not path.is_file():
        raise ConfigError(f"finetune.data={path}: no such file; {_NEED}")
    examples = []
    for where, line in read_lines(path, "texts"):
        row = parse_row(where, line)
        whole = "text" in row
        parts = (row.get("text"),) if whole else (row.get("prompt"), row.get("completion"))
        if not all(isinstance(part, str) and part for part in parts):
            raise ConfigError(f"{where}: not a text to learn; {_NEED}, none of them empty")
        *prompt, completion = map(str, parts)
        examples.append(Example(prompt="".join(prompt), completion=completion))
    if not examples:
        raise ConfigError(f"finetune.data={path}: the file has no lines; {_NEED}")
    return examples
