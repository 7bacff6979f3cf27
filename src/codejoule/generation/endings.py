"""What ends the sequences of one engine."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from codejoule.domain import Prompt
from codejoule.generation.pieces import Pieces
from codejoule.generation.sequence import DecodedSequence
from codejoule.generation.text_stop import EndFinder, TextStop

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Endings:
    """End tokens, stop strings and the ends of programs, for all sequences of an engine.

    Every engine begins its sequences here, so that what ends one, where its text is cut and
    how its tokens are counted is the same for all of them. An engine that sees text and no
    tokens takes `text_stop`.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        stop: Sequence[str],
        program_end: Callable[[Prompt], EndFinder] | None,
        fixed_length: bool,
    ) -> None:
        """`program_end` makes, for one prompt, what tells that the answer's program is
        complete. With `fixed_length` nothing ends a sequence."""
        assert not (fixed_length and program_end), "a fixed length ends with no program"
        self._pieces = Pieces(tokenizer)
        self._strings = () if fixed_length else tuple(dict.fromkeys(stop))
        self._program_end = program_end
        self.end_tokens = () if fixed_length else _end_tokens(model, tokenizer, self._strings)
        """Tokens that end a sequence."""
        self.reads_text = bool(self._strings) or program_end is not None
        """Whether anything but a token or the limit can end a sequence."""

    def begin(self, prompt: Prompt) -> DecodedSequence:
        """The sequence that will answer `prompt`."""
        return DecodedSequence(
            prompt, self._pieces, end_tokens=self.end_tokens, stop=self.text_stop(prompt)
        )

    def text_stop(self, prompt: Prompt) -> TextStop:
        """What ends the text that will answer `prompt`."""
        program_end = None if self._program_end is None else self._program_end(prompt)
        return TextStop(prompt=prompt.text, strings=self._strings, program_end=program_end)


def _end_tokens(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", strings: Sequence[str]
) -> tuple[int, ...]:
    """The end tokens that the model's generation config, its config or its tokenizer name, and
    special tokens that are stop strings: those leave no text in which to find them."""
    found: list[int] = []
    owners: tuple[Any, ...] = (model.generation_config, model.config, tokenizer)
    for owner in owners:
        named = getattr(owner, "eos_token_id", None)
        found += named if isinstance(named, list) else [] if named is None else [named]
    found += [
        token
        for token, added in tokenizer.added_tokens_decoder.items()
        if added.special and added.content in strings
    ]
    return tuple(dict.fromkeys(found))
