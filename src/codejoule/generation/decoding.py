"""How an engine decodes, whichever it is."""

from collections.abc import Callable
from dataclasses import dataclass

from codejoule.config.schema import GenerationConfig
from codejoule.domain import Prompt
from codejoule.generation.text_stop import EndFinder


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
    """Makes, for one prompt, what tells that the answer's program is complete."""

    def __post_init__(self) -> None:
        assert not (self.fixed_length and self.program_end), "a fixed length ends with no program"
