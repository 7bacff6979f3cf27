"""The decode loop over one window: sequences that have ended make room for waiting prompts."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from codejoule.domain import FIRST_TOKEN, Completion, Pace, Prompt, Running, later_prefill
from codejoule.generation.engine import Ended, Window
from codejoule.generation.graph.capture import Steps, fit
from codejoule.generation.graph.state import DeviceState
from codejoule.generation.sequence import DecodedSequence

_PREFILL_TOKENS = 8192
"""Positions of one forward pass over prompts: enough to keep a GPU busy, and little memory."""

_FREE_SHARE = 8
"""Waiting prompts are read once this share of the slots (one in so many) is free, because each
reading stops the other sequences."""


@dataclass(slots=True)
class _Row:
    """One sequence in its slot."""

    number: int
    """Which of the window's prompts it answers."""
    sequence: DecodedSequence
    prompt_tokens: int
    tokens: int
    """In its slot: the prompt's, and those generated whose keys are written."""
    left: int
    """Tokens that it may still have."""
    taken_up_s: float
    steps_before: int
    """Decode steps of the window before its first."""
    first_s: float
    last_s: float


class Loop:
    """Decodes one window. The host looks at the tokens every `check_every` steps; a sequence that
    has ended meanwhile runs on until then, and what it then writes is thrown away. Its slot takes a
    waiting prompt."""

    def __init__(
        self,
        window: Window,
        ids: Sequence[Sequence[int]],
        *,
        state: DeviceState,
        run: Steps,
        batches: Sequence[int],
        lengths: Sequence[int],
        check_every: int,
        begin: Callable[[Prompt], DecodedSequence],
        pad_token: int,
    ) -> None:
        """`run` runs a step of one of the sizes `batches` over one of the `lengths`; `begin` makes
        the sequence that answers a prompt."""
        self._window = window
        self._ids = ids
        self._state = state
        self._run = run
        self._batches = batches
        self._lengths = lengths
        self._check_every = check_every
        self._begin = begin
        self._pad_token = pad_token
        self._waiting = deque(range(len(ids)))
        self._rows: list[_Row | None] = [None] * min(window.at_once, batches[-1])
        self._completions: dict[int, Completion] = {}
        self._steps = 0
        self._positions = 0
        self._prefills = 0
        self._opened_s = perf_counter()

    def decode(self) -> Iterator[Ended]:
        """Complete every prompt of the window."""
        self._state.end_all()
        while self._waiting or self._running():
            if self._time_to_admit():
                self._admit()
            else:
                self._run_block()
            if self._completions:
                ended, self._completions = self._completions, {}
                yield Ended(
                    completions=ended,
                    running=tuple(self._on(row) for row in self._rows if row is not None),
                    clock=self._steps,
                    positions=self._positions,
                )

    def _on(self, row: _Row) -> Running:
        prompt = self._window.prompts[row.number]
        return Running(
            task_id=prompt.task_id,
            sample=prompt.sample,
            prompt_tokens=row.prompt_tokens,
            pace=self._pace(row, self._steps),
        )

    def _running(self) -> list[int]:
        """Slots whose sequence runs."""
        return [slot for slot, row in enumerate(self._rows) if row is not None]

    def _time_to_admit(self) -> bool:
        running = len(self._running())
        free = min(len(self._rows) - running, len(self._waiting))
        return free > 0 and (
            not running
            or free == len(self._waiting)
            or free >= math.ceil(len(self._rows) / _FREE_SHARE)
        )

    def _admit(self) -> None:
        """Fill the free slots with waiting prompts, in passes of like size."""
        begin, end = later_prefill(self._prefills) if self._prefills else (None, FIRST_TOKEN)
        if begin is not None:
            self._window.mark(begin)
        free = [slot for slot, row in enumerate(self._rows) if row is None]
        count = min(len(free), len(self._waiting))
        for chosen in _passes([self._waiting.popleft() for _ in range(count)], self._ids):
            slots, free = free[: len(chosen)], free[len(chosen) :]
            self._read(chosen, slots)
        self._window.mark(end)
        self._prefills += 1

    def _read(self, chosen: Sequence[int], slots: Sequence[int]) -> None:
        """One forward pass over some prompts, each into its slot."""
        began_s, limit = perf_counter(), self._window.max_new_tokens
        lengths = [len(self._ids[number]) for number in chosen]
        width = max(lengths)
        padded = [
            [*self._ids[number], *[self._pad_token] * (width - length)]
            for number, length in zip(chosen, lengths, strict=True)
        ]
        first = self._state.admit(padded, lengths, slots, limit)
        now_s = perf_counter()
        self._positions += len(chosen) * width
        over = []
        for number, slot, token, length in zip(chosen, slots, first, lengths, strict=True):
            row = _Row(
                number=number,
                sequence=self._begin(self._window.prompts[number]),
                prompt_tokens=length,
                tokens=length,
                left=limit - 1,
                taken_up_s=began_s,
                steps_before=self._steps,
                first_s=now_s,
                last_s=now_s,
            )
            self._rows[slot] = row
            if row.sequence.feed(token) or row.left == 0:
                self._finish(slot, row)
                over.append(slot)
        self._state.end(over)

    def _run_block(self) -> None:
        """Some steps of all running sequences, then a look at their tokens."""
        running = self._gather()
        live = [(slot, row) for slot in running if (row := self._rows[slot]) is not None]
        steps = min(self._check_every, max(row.left for _, row in live))
        rows = fit(self._batches, running[-1] + 1)
        length = fit(self._lengths, max(row.tokens + min(steps, row.left) for _, row in live))
        began_s = perf_counter()
        self._state.begin_block()
        for _ in range(steps):
            self._run(rows, length)
        tokens = self._state.read(steps, rows)
        step_s = (perf_counter() - began_s) / steps
        over = []
        for slot, row in live:
            for step in range(steps):
                row.left -= 1
                row.tokens += 1
                row.last_s = began_s + (step + 1) * step_s
                if row.sequence.feed(tokens[step][slot]) or row.left == 0:
                    self._finish(slot, row)
                    over.append(slot)
                    break
        self._steps += steps
        self._positions += steps * rows
        self._state.end(over)

    def _gather(self) -> list[int]:
        """Slots whose sequence runs, brought to the front where that makes steps smaller."""
        running = self._running()
        if fit(self._batches, len(running)) < fit(self._batches, running[-1] + 1):
            self._state.move(running)
            kept = [self._rows[slot] for slot in running]
            self._rows = [*kept, *[None] * (len(self._rows) - len(kept))]
            self._state.end(range(len(kept), len(self._rows)))
            running = self._running()
        return running

    def _finish(self, slot: int, row: _Row) -> None:
        self._rows[slot] = None
        done = row.sequence.completion(prompt_tokens=row.prompt_tokens)
        pace = self._pace(row, row.steps_before + done.output_tokens - 1)
        self._completions[row.number] = replace(done, pace=pace)

    def _pace(self, row: _Row, end: int) -> Pace:
        return Pace(
            ttft_s=row.first_s - row.taken_up_s,
            decode_s=row.last_s - row.first_s,
            begin=row.steps_before - 1,
            first=row.steps_before,
            end=end,
            begun_s=row.taken_up_s - self._opened_s,
        )


def _passes(admitted: Sequence[int], ids: Sequence[Sequence[int]]) -> list[list[int]]:
    """Prompts that are read together: alike in length, so that little is padding."""
    passes: list[list[int]] = []
    for number in sorted(admitted, key=lambda number: -len(ids[number])):
        # The first of a pass is its longest.
        if passes and len(ids[passes[-1][0]]) * (len(passes[-1]) + 1) <= _PREFILL_TOKENS:
            passes[-1].append(number)
        else:
            passes.append([number])
    return passes
