"""From tokens to the text that they add."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CUT = "\ufffd"
"""What decoding shows for a character whose last bytes are still to come."""


class Pieces:
    """The text that tokens add to a sequence, special tokens left out.

    Tokens are decoded behind a letter: at the start of a text some tokenizers swallow a space,
    which in a continuation is indentation. Each token is decoded once.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self._letter: list[int] = list(tokenizer("a", add_special_tokens=False)["input_ids"])
        self._known: dict[int, str] = {}
        self._skip = len(self._decode(self._letter))

    def of(self, token: int) -> str:
        """Text of one token."""
        piece = self._known.get(token)
        if piece is None:
            piece = self._known[token] = self.text([token])
        return piece

    def text(self, tokens: Sequence[int]) -> str:
        """Text of several tokens in a row."""
        return self._decode([*self._letter, *tokens])[self._skip :]

    def _decode(self, tokens: list[int]) -> str:
        text = self._tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        assert isinstance(text, str)
        return text
