"""How any engine decodes: what it chooses tokens by, and what ends a sequence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codejoule.config.schema import GenerationConfig
from codejoule.config.schema import Thinking as ThinkingMode
from codejoule.domain import Prompt
from codejoule.generation.text_stop import EndFinder, TextStop
from codejoule.generation.thinking import Thinking

if TYPE_CHECKING:
    import transformers


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """What chooses the tokens of a run's sequences, and what ends them."""

    generation: GenerationConfig
    """Greedy or drawn, and how."""
    max_new_tokens: int
    """Limit on the tokens of a sequence."""
    stop: tuple[str, ...] = ()
    """Stop strings."""
    fixed_length: bool = False
    """Whether every sequence has exactly `max_new_tokens` tokens: end tokens and stop strings count
    for nothing."""
    program_end: Callable[[Prompt], EndFinder] | None = None
    """Makes, for one prompt, the function that says when the answer's program is complete."""

    def __post_init__(self) -> None:
        assert not (self.fixed_length and self.program_end), "a fixed length ends with no program"

    def thinking(self, tokenizer: "transformers.PreTrainedTokenizerBase") -> Thinking | None:
        """How sequences think before they answer; None where they do not."""
        if self.generation.thinking is ThinkingMode.off:
            return None
        return Thinking.of(tokenizer, budget=self.generation.thinking_tokens)

    @property
    def ends_by_text(self) -> bool:
        """Whether anything can end a text."""
        return bool(self._strings) or self.program_end is not None

    def text_stop(self, prompt: Prompt) -> TextStop:
        """What ends the text that will answer `prompt`."""
        program_end = None if self.program_end is None else self.program_end(prompt)
        return TextStop(prompt=prompt.text, strings=self._strings, program_end=program_end)

    @property
    def _strings(self) -> tuple[str, ...]:
        return () if self.fixed_length else tuple(dict.fromkeys(self.stop))

    def end_tokens(
        self, owners: Sequence[Any], tokenizer: "transformers.PreTrainedTokenizerBase"
    ) -> tuple[int, ...]:
        """The end tokens that the model's generation config and config (`owners`) or its tokenizer
        name, and special tokens that are stop strings: those leave no text in which to find them.
        None where the length is fixed."""
        if self.fixed_length:
            return ()
        found: list[int] = []
        for owner in (*owners, tokenizer):
            named = getattr(owner, "eos_token_id", None)
            found += named if isinstance(named, list) else [] if named is None else [named]
        found += [
            token
            for token, added in tokenizer.added_tokens_decoder.items()
            if added.special and added.content in self.stop
        ]
        return tuple(dict.fromkeys(found))

    def settings(
        self, *, max_new_tokens: int, end_tokens: Sequence[int], pad_token: int | None
    ) -> "transformers.GenerationConfig":
        """The settings for transformers' `generate`. Every setting that shapes the text is
        stated."""
        from transformers import GenerationConfig as Settings

        chosen: dict[str, Any] = {
            "do_sample": self.generation.do_sample,
            "num_beams": 1,
            "repetition_penalty": 1.0,
            "max_new_tokens": max_new_tokens,
            "eos_token_id": list(end_tokens) or None,
            "pad_token_id": pad_token,
            "use_cache": True,
        }
        if self.generation.do_sample:
            top_p = self.generation.top_p
            chosen |= {
                "temperature": self.generation.temperature,
                "top_p": 1.0 if top_p is None else top_p,
                # transformers' default of 50 would cut the tail that top_p leaves.
                "top_k": 0,
            }
        return Settings(**chosen)
