"""The engine ``graph``: our decode loop."""

import gc
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING, Any

from codejoule.domain import FIRST_TOKEN, Completion, Pace, Prompt, later_prefill
from codejoule.generation.decoding import Decoding
from codejoule.generation.endings import Endings
from codejoule.generation.engine import Decoded, unwatched
from codejoule.generation.finite import not_finite
from codejoule.generation.graph.buckets import batch_buckets, fit, length_buckets
from codejoule.generation.graph.capture import CapturedSteps, Steps
from codejoule.generation.graph.choose import chooser
from codejoule.generation.graph.decoder import Decoder
from codejoule.generation.graph.state import DeviceState
from codejoule.generation.sequence import DecodedSequence
from codejoule.generation.tokens import PromptTokens

if TYPE_CHECKING:
    import transformers

_PREFILL_TOKENS = 8192
"""Positions of one forward pass over prompts: enough to keep a GPU busy, and little memory."""

_FREE_SHARE = 8
"""Waiting prompts are read once one in so many slots is free: each reading stops the others."""

_ROUND = 64


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


@dataclass(slots=True)
class _Window:
    """A window in progress."""

    waiting: deque[int]
    rows: list[_Row | None]
    completions: dict[int, Completion] = field(default_factory=dict)
    steps: int = 0
    positions: int = 0
    prefills: int = 0

    @property
    def running(self) -> list[int]:
        """Slots whose sequence runs."""
        return [slot for slot, row in enumerate(self.rows) if row is not None]


class GraphEngine:
    """Decodes with a static slot cache and whole steps captured as CUDA graphs.

    A step is the forward pass, the choice of a token and the check for end tokens, over as many
    rows and cached tokens as the smallest captured size holds. The host looks at the tokens every
    `check_every` steps; a sequence that has ended meanwhile runs on until then, and what it then
    writes is thrown away. Its slot takes a waiting prompt. On the CPU the same loop runs without
    graphs.
    """

    compiles = True

    def __init__(
        self,
        model: "transformers.PreTrainedModel",
        tokenizer: "transformers.PreTrainedTokenizerBase",
        decoding: Decoding,
        *,
        compiled: bool | None = None,
        check_every: int = 8,
    ) -> None:
        """`compiled` compiles the layers (None: on a GPU, where it is known to help).

        Raises `UserError` for a model that it cannot run.
        """
        self._model = model
        self._device = model.device
        self._tokens = PromptTokens(model, tokenizer)
        self._max_new_tokens = decoding.max_new_tokens
        self._check_every = check_every
        self._endings = Endings(model, tokenizer, decoding)
        self._choose = chooser(decoding.generation)
        self._decoder = Decoder(model, compiled=compiled)
        self._state: DeviceState | None = None
        self._lengths: tuple[int, ...] = ()
        self._batches: tuple[int, ...] = ()
        self._run: Steps | None = None

    def prepare(self, windows: Sequence[Sequence[Prompt]], *, at_once: int) -> None:
        """Allocate the slots, and compile and capture a step of every size that may be run."""
        import torch

        self._release()
        prompts = list(chain.from_iterable(windows))
        rows = self._tokens.rows(prompts, max_new_tokens=self._max_new_tokens)
        longest = max(map(len, rows))
        slots = min(at_once, max(map(len, windows)))
        length = math.ceil((longest + self._max_new_tokens) / _ROUND) * _ROUND
        self._batches, self._lengths = batch_buckets(slots), length_buckets(length)
        with torch.no_grad():
            # Longer than any step reads: a size that may equal another is taken for a constant.
            layers = self._decoder.allocate(slots=slots, length=length + _ROUND)
            self._state = DeviceState(
                self._decoder,
                layers,
                choose=self._choose,
                end_tokens=self._endings.end_tokens,
                steps=self._check_every,
            )
            self._run = self._steps(self._state)

    def _steps(self, state: DeviceState) -> Steps:
        if self._device.type != "cuda":
            return state.step
        captured = CapturedSteps(state.step)
        # The largest first: its memory then serves the others.
        for rows in reversed(self._batches):
            self._decoder.suit_experts(rows)
            for length in reversed(self._lengths):
                state.begin_block()
                captured.capture(rows, length)
        return captured

    def warm_up(self, prompts: Sequence[Prompt], *, tokens: int) -> None:
        """Decode `prompts` for `tokens` new tokens each; what comes out is thrown away."""
        self._decode(
            prompts,
            at_once=len(prompts),
            seed=0,
            mark=lambda name: None,
            max_new_tokens=min(tokens, self._max_new_tokens),
        )

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        at_once: int,
        seed: int,
        mark: Callable[[str], None],
        ended: Callable[[int], object] = unwatched,
    ) -> Decoded:
        """Complete `prompts`, `at_once` of them together and as many as there are slots at most.

        `seed` seeds torch for this window alone. Raises `UserError` for a prompt that does not
        fit the model's context, and for logits that are not finite.
        """
        return self._decode(
            prompts,
            at_once=at_once,
            seed=seed,
            mark=mark,
            max_new_tokens=self._max_new_tokens,
            ended=ended,
        )

    def facts(self) -> dict[str, Any]:
        """Slots, sizes and what of the step is compiled and captured."""
        captured = self._run if isinstance(self._run, CapturedSteps) else ()
        return {
            "kv_cache": "slots",
            "kv_cache_tokens": self._lengths[-1],
            "slots": self._batches[-1],
            "batch_sizes": list(self._batches),
            "lengths": list(self._lengths),
            "cuda_graphs": len(captured),
            "compiled": self._decoder.compiled,
            "triton_row_products": list(self._decoder.row_products),
            "attention": "grouped batched products (decode), sdpa (prefill)",
            "check_every": self._check_every,
        }

    def close(self) -> None:
        """Free the slots and give the model back as it was."""
        self._release()
        self._decoder.close()

    def _release(self) -> None:
        self._state, self._run = None, None
        gc.collect()
        if self._device.type == "cuda":
            import torch

            torch.cuda.empty_cache()

    def _decode(
        self,
        prompts: Sequence[Prompt],
        *,
        at_once: int,
        seed: int,
        mark: Callable[[str], None],
        max_new_tokens: int,
        ended: Callable[[int], object] = unwatched,
    ) -> Decoded:
        import torch

        assert self._state is not None, "prepared first"
        ids = self._tokens.rows(prompts, max_new_tokens=max_new_tokens)
        slots = min(at_once, self._batches[-1])
        window = _Window(waiting=deque(range(len(prompts))), rows=[None] * slots)
        torch.manual_seed(seed)
        with torch.no_grad():
            self._state.end_all()
            while window.waiting or window.running:
                before = len(window.completions)
                if self._time_to_admit(window):
                    self._admit(window, prompts, ids, mark, max_new_tokens)
                else:
                    self._run_block(window)
                ended(len(window.completions) - before)
            if not self._state.finite():
                raise not_finite(self._model, "in this window")
        return Decoded(
            completions=tuple(window.completions[number] for number in range(len(prompts))),
            positions=window.positions,
        )

    def _time_to_admit(self, window: _Window) -> bool:
        running = len(window.running)
        free = min(len(window.rows) - running, len(window.waiting))
        return free > 0 and (
            not running
            or free == len(window.waiting)
            or free >= math.ceil(len(window.rows) / _FREE_SHARE)
        )

    def _admit(
        self,
        window: _Window,
        prompts: Sequence[Prompt],
        ids: Sequence[Sequence[int]],
        mark: Callable[[str], None],
        max_new_tokens: int,
    ) -> None:
        """Fill the free slots with waiting prompts, in passes of like size."""
        begin, end = later_prefill(window.prefills) if window.prefills else (None, FIRST_TOKEN)
        if begin is not None:
            mark(begin)
        free = [slot for slot, row in enumerate(window.rows) if row is None]
        count = min(len(free), len(window.waiting))
        admitted = [window.waiting.popleft() for _ in range(count)]
        for chosen in _passes(admitted, ids):
            slots, free = free[: len(chosen)], free[len(chosen) :]
            self._read(window, chosen, slots, prompts, ids, max_new_tokens)
        mark(end)
        window.prefills += 1

    def _read(
        self,
        window: _Window,
        chosen: Sequence[int],
        slots: Sequence[int],
        prompts: Sequence[Prompt],
        ids: Sequence[Sequence[int]],
        max_new_tokens: int,
    ) -> None:
        """One forward pass over some prompts, each into its slot."""
        import torch

        assert self._state is not None
        began_s = perf_counter()
        lengths = [len(ids[number]) for number in chosen]
        width = max(lengths)
        padded = [
            [*ids[number], *[self._tokens.pad_token] * (width - len(ids[number]))]
            for number in chosen
        ]
        first = self._state.admit(
            torch.tensor(padded, device=self._device),
            torch.tensor(lengths, device=self._device),
            torch.tensor(slots, device=self._device),
            max_new_tokens,
        )
        now_s = perf_counter()
        window.positions += len(chosen) * width
        over = []
        for number, slot, token, length in zip(chosen, slots, first, lengths, strict=True):
            row = _Row(
                number=number,
                sequence=self._endings.begin(prompts[number]),
                prompt_tokens=length,
                tokens=length,
                left=max_new_tokens - 1,
                taken_up_s=began_s,
                steps_before=window.steps,
                first_s=now_s,
                last_s=now_s,
            )
            window.rows[slot] = row
            if row.sequence.feed(token) or row.left == 0:
                self._finish(window, slot)
                over.append(slot)
        self._state.end(over)

    def _run_block(self, window: _Window) -> None:
        """Some steps of all running sequences, then a look at their tokens."""
        assert self._state is not None and self._run is not None
        running = self._gather(window)
        live = [(slot, row) for slot in running if (row := window.rows[slot]) is not None]
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
                    self._finish(window, slot)
                    over.append(slot)
                    break
        window.steps += steps
        window.positions += steps * rows
        self._state.end(over)

    def _gather(self, window: _Window) -> list[int]:
        """Slots whose sequence runs, brought to the front where that makes steps smaller."""
        assert self._state is not None
        running = window.running
        if fit(self._batches, len(running)) < fit(self._batches, running[-1] + 1):
            self._state.move(running)
            kept = [window.rows[slot] for slot in running]
            window.rows = [*kept, *[None] * (len(window.rows) - len(kept))]
            self._state.end(range(len(kept), len(window.rows)))
            running = window.running
        return running

    def _finish(self, window: _Window, slot: int) -> None:
        row = window.rows[slot]
        assert row is not None
        window.rows[slot] = None
        done = row.sequence.completion(prompt_tokens=row.prompt_tokens)
        pace = Pace(
            ttft_s=row.first_s - row.taken_up_s,
            decode_s=row.last_s - row.first_s,
            begin=row.steps_before - 1,
            first=row.steps_before,
            end=row.steps_before + done.output_tokens - 1,
        )
        window.completions[row.number] = replace(done, pace=pace)


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
