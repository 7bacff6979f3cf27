"""Turns an engine's tokens into sequences of text."""

from collections import deque
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from codejoule.domain import Completion, FinishReason, Prompt
from codejoule.generation.text_stop import TextStop
from codejoule.generation.thinking import Thinking

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_HALF_CHARACTER = "\ufffd"
"""What decoding shows for a character whose last bytes are still to come."""
_LONGEST_WAIT = 16
"""Tokens after which bytes that make no character are read as they are; a character has 4."""


class Pieces:
    """The text that tokens add to a sequence, special tokens left out. Tokens are decoded behind a
    letter: at the start of a text some tokenizers swallow a space, which in a continuation is
    indentation. Each token is decoded once."""

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


class DecodedSequence:
    """Takes one sequence's tokens as they are generated and says when it has ended. It ends with an
    end token, or when its `TextStop` says so. Tokens after that are ignored, so that an engine may
    go on feeding the padding of a finished row."""

    def __init__(
        self,
        prompt: Prompt,
        pieces: Pieces,
        *,
        end_tokens: Collection[int],
        stop: TextStop,
        thinking: Thinking | None = None,
    ) -> None:
        """With `thinking` the answer, and what ends it, begins behind that."""
        self._prompt = prompt
        self._pieces = pieces
        self._end_tokens = end_tokens
        self._stop = stop
        self._texts: list[str] = []
        self._unread: list[int] = []
        self._count = 0
        self._reason: FinishReason | None = None
        self._thinking = thinking
        self._thoughts = ""
        self._latest: deque[int] = deque(maxlen=len(thinking.end_tokens) if thinking else 0)
        self.thinks = thinking is not None
        """Whether it has not begun its answer."""
        self.thought: int | None = None if thinking is None else 0
        """Tokens before its answer, so far; None for one that does not think."""

    def feed(self, token: int) -> bool:
        """Take the next token; whether the sequence has ended."""
        if self._reason is None:
            self._count += 1
            self._unread.append(token)
            if self.thinks:
                self._think(token)
            elif self._stop.in_force:
                self._read()
            self._reason = FinishReason.eos if token in self._end_tokens else self._stop.reason
        return self._reason is not None

    def completion(self, *, prompt_tokens: int) -> Completion:
        """The completion so far; if the sequence has not ended, the limit on new tokens ended
        it."""
        # What it was still thinking is no answer.
        rest = "" if self.thinks else self._pieces.text(self._unread)
        text = "".join(self._texts) + rest
        return Completion(
            task_id=self._prompt.task_id,
            sample=self._prompt.sample,
            text=text[: self._stop.kept],
            prompt_tokens=prompt_tokens,
            output_tokens=self._count,
            finish_reason=self._reason or FinishReason.length,
            thinking_tokens=self.thought,
        )

    def _think(self, token: int) -> None:
        assert self._thinking is not None
        self.thought = self._count
        if (piece := self._piece()) is not None:
            self._thoughts += piece
        self._latest.append(token)
        _, ended, answer = self._thoughts.partition(self._thinking.end)
        # It may be of special tokens, which leave no text.
        if not ended and tuple(self._latest) != self._thinking.end_tokens:
            return
        self.thinks = False
        self._unread.clear()
        if answer:
            self._texts.append(answer)
            self._stop.feed(answer)

    def _read(self) -> None:
        if (piece := self._piece()) is not None:
            self._texts.append(piece)
            self._stop.feed(piece)

    def _piece(self) -> str | None:
        """The text of the unread tokens; None where the rest of a character is still to come."""
        # The bytes of one character may be spread over tokens: it is read when they are there.
        first = len(self._unread) == 1
        piece = self._pieces.of(self._unread[0]) if first else self._pieces.text(self._unread)
        if piece.endswith(_HALF_CHARACTER) and len(self._unread) < _LONGEST_WAIT:
            return None
        self._unread.clear()
        return piece
