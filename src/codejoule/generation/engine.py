"""What every engine offers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from codejoule.domain import Completion, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What came of the prompts of one accounting window."""

    completions: tuple[Completion, ...]
    """One per prompt, in the prompts' order."""
    positions: int | None
    """Token positions that the model computed, padding and ended rows included; None where the
    engine cannot tell."""


def unwatched(count: int) -> None:
    """Progress that nobody watches."""


class Engine(Protocol):
    """Turns prompts into completions.

    An engine is made for one model, one way of decoding, one set of stop strings and one
    limit on new tokens.
    """

    compiles: bool
    """Whether `prepare` has something to do."""

    def prepare(self, windows: Sequence[Sequence[Prompt]], *, at_once: int) -> None:
        """Compile and capture what decoding these windows' prompts, at most `at_once` together,
        will run, so that none of it happens later."""

    def warm_up(self, prompts: Sequence[Prompt], *, tokens: int) -> None:
        """Decode `prompts` together for `tokens` new tokens each, for nothing but the caches'
        sake."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        at_once: int,
        seed: int,
        mark: Callable[[str], None],
        ended: Callable[[int], object] = unwatched,
    ) -> Decoded:
        """Complete `prompts`, at most `at_once` of them together.

        `mark` is called with `FIRST_TOKEN` once, when the first tokens exist, and around every
        later prefill with the names that `later_prefill` has for it, where the engine tells
        prefill from decode. `ended` is called with the number of sequences that have ended since
        the last call. The same seed gives the same samples, where the engine can say so.
        """

    def facts(self) -> dict[str, Any]:
        """How it decodes, as it was really set up; asked after `prepare`."""

    def close(self) -> None:
        """Give back what the engine holds beside the model."""
