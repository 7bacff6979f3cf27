"""What ends a sequence of text: stop strings, and a program that is complete."""

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from codejoule.domain import FinishReason

EndFinder: TypeAlias = Callable[[str], int | None]
"""Takes the pieces of one sequence's text as they come. Once its program is complete it returns
the number of characters, of all so far, up to the program's end; None before."""


class TextStop:
    """Decides, piece by piece, whether one sequence of text has ended and how much of it counts.
    Every engine asks one of these for each of its sequences. The first stop string to be complete
    counts, and it may begin in the prompt: after a prompt that ends with a line break, ``def ``
    completes the stop string ``\\ndef ``, and nothing is left."""

    def __init__(
        self, *, prompt: str, strings: Sequence[str], program_end: EndFinder | None = None
    ) -> None:
        self._strings = strings
        self._program_end = program_end
        self._any = re.compile("|".join(map(re.escape, strings))) if strings else None
        self._overlap = max(map(len, strings), default=1) - 1
        self._tail = self._last(prompt)
        self._fed = 0
        self.reason: FinishReason | None = None
        """Why it ended: ``stop`` or ``complete``; None while it goes on."""
        self.kept: int | None = None
        """Characters that count; None (all) while it goes on."""
        self.in_force = bool(strings) or program_end is not None
        """Whether anything can end it."""

    def feed(self, piece: str) -> bool:
        """Take the text's next `piece`; whether the text has ended."""
        if self.reason is not None:
            return True
        stopped = self._stopped(piece)
        complete = None if self._program_end is None else self._program_end(piece)
        self._fed += len(piece)
        if stopped is not None and (complete is None or stopped <= complete):
            self.reason, self.kept = FinishReason.stop, stopped
        elif complete is not None:
            self.reason, self.kept = FinishReason.complete, complete
        return self.reason is not None

    def _stopped(self, piece: str) -> int | None:
        """Where the first stop string that `piece` completes begins, in characters."""
        if self._any is None:
            return None
        whole, edge = self._tail + piece, len(self._tail)
        self._tail = self._last(whole)
        if self._any.search(whole) is None:
            return None
        # A match has at least one character in the new piece.
        found = [(whole.find(s, max(0, edge - len(s) + 1)), len(s)) for s in self._strings]
        ends = [(start + length, start) for start, length in found if start >= 0]
        return max(0, self._fed + min(ends)[1] - edge) if ends else None

    def _last(self, text: str) -> str:
        return text[-self._overlap :] if self._overlap else ""
