"""What a thinking model writes before its answer, told from the answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codejoule.domain.text import FINAL_CHANNEL, THINKING_END, thinking_end

if TYPE_CHECKING:
    import torch
    import transformers

    from codejoule.generation.sequence import DecodedSequence

_LAST_WORDS = (
    "\n\nConsidering the limited time by the user, I have to give the solution based on the "
    "thinking directly now."
)
"""What Qwen's authors put where a budget is spent (Qwen3 Technical Report, arXiv:2505.09388,
section 4.3)."""
_BEFORE_END = {THINKING_END: "\n", FINAL_CHANNEL: "<|end|><|start|>assistant"}
"""What then stands before the end of the thinking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinking:
    """How a run's sequences think."""

    end: str
    """What ends it."""
    end_tokens: tuple[int, ...]
    """The tokens of that; where they are special, they leave no text."""
    budget: int | None
    """Tokens after which `last_words` take the place of what the model would choose; None without
    such a limit."""
    last_words: tuple[int, ...]
    """Tokens that end it."""

    @classmethod
    def of(
        cls, tokenizer: "transformers.PreTrainedTokenizerBase", *, budget: int | None
    ) -> "Thinking":
        """As this tokenizer writes it."""
        end = thinking_end(str(tokenizer.chat_template)) or THINKING_END
        words = f"{_LAST_WORDS}{_BEFORE_END[end]}{end}"
        return cls(
            end=end,
            end_tokens=tuple(tokenizer(end, add_special_tokens=False)["input_ids"]),
            budget=budget,
            last_words=tuple(tokenizer(words, add_special_tokens=False)["input_ids"]),
        )


class ThinkingBudget:
    """A logits processor for `generate`: once a sequence has thought for its budget, it must write
    the last words, one token at each step."""

    def __init__(self, sequences: "Sequence[DecodedSequence]", thinking: Thinking) -> None:
        assert thinking.budget is not None
        self._sequences = sequences
        self._budget = thinking.budget
        self._words = thinking.last_words

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        """Called before each choice, when the sequences know every token before it."""
        for row, sequence in enumerate(self._sequences):
            over = None if sequence.thought is None else sequence.thought - self._budget
            if sequence.thinks and over is not None and 0 <= over < len(self._words):
                scores[row] = float("-inf")
                scores[row, self._words[over]] = 0.0
        return scores
