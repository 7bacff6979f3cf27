"""What ends the sequences of one engine."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codejoule.domain import Prompt
from codejoule.generation.decoding import Decoding
from codejoule.generation.pieces import Pieces
from codejoule.generation.sequence import DecodedSequence
from codejoule.generation.text_stop import TextStops

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Endings:
    """End tokens, stop strings and the ends of programs, for all sequences of an engine.

    Every engine begins its sequences here, so that what ends one, where its text is cut and
    how its tokens are counted is the same for all of them. An engine that sees text and no
    tokens takes `TextStops` alone.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        decoding: Decoding,
    ) -> None:
        self._pieces = Pieces(tokenizer)
        self.text = text_stops(decoding)
        """What ends a sequence by its text."""
        owners = (model.generation_config, model.config)
        self.end_tokens = end_tokens(owners, tokenizer, decoding)
        """Tokens that end a sequence."""

    def begin(self, prompt: Prompt) -> DecodedSequence:
        """The sequence that will answer `prompt`."""
        return DecodedSequence(
            prompt, self._pieces, end_tokens=self.end_tokens, stop=self.text.begin(prompt)
        )


def text_stops(decoding: Decoding) -> TextStops:
    """What ends sequences by their text."""
    strings = () if decoding.fixed_length else decoding.stop
    return TextStops(strings, program_end=decoding.program_end)


def end_tokens(
    owners: Sequence[Any], tokenizer: "PreTrainedTokenizerBase", decoding: Decoding
) -> tuple[int, ...]:
    """The end tokens that the model's generation config and config (`owners`) or its tokenizer
    name, and special tokens that are stop strings: those leave no text in which to find them.
    None where the length is fixed."""
    if decoding.fixed_length:
        return ()
    found: list[int] = []
    for owner in (*owners, tokenizer):
        named = getattr(owner, "eos_token_id", None)
        found += named if isinstance(named, list) else [] if named is None else [named]
    found += [
        token
        for token, added in tokenizer.added_tokens_decoder.items()
        if added.special and added.content in decoding.stop
    ]
    return tuple(dict.fromkeys(found))
