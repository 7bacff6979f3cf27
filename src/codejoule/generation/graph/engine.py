"""The engine ``graph``: our decode loop."""

import gc
import math
from collections.abc import Generator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from codejoule.common.progress import doing
from codejoule.config.schema import EngineConfig
from codejoule.domain import Prompt
from codejoule.generation.decoding import Decoding
from codejoule.generation.engine import Ended, LocalEngine, Window, seed_of
from codejoule.generation.finite import not_finite
from codejoule.generation.graph.capture import CapturedSteps, Steps, batch_buckets, length_buckets
from codejoule.generation.graph.decoder import Decoder
from codejoule.generation.graph.loop import Loop
from codejoule.generation.graph.state import DeviceState, chooser

if TYPE_CHECKING:
    import transformers

_CHECK_EVERY = 8
_ROUND = 64


class GraphEngine(LocalEngine):
    """Decodes with a static slot cache and whole steps captured as CUDA graphs. A step is the
    forward pass, the choice of a token and the check for end tokens, over as many rows and cached
    tokens as the smallest captured size holds. `Loop` runs them. On the CPU the same loop runs
    without graphs."""

    def __init__(
        self,
        model: "transformers.PreTrainedModel",
        tokenizer: "transformers.PreTrainedTokenizerBase",
        decoding: Decoding,
        config: EngineConfig | None = None,
    ) -> None:
        """Raises `UserError` for a model that it cannot run."""
        super().__init__(model, tokenizer, decoding, config)
        self._device = model.device
        self._check_every = self._config.check_every or _CHECK_EVERY
        self._decoder = Decoder(model, compiled=self._config.compile)
        self._state: DeviceState | None = None
        self._lengths: tuple[int, ...] = ()
        self._batches: tuple[int, ...] = ()
        self._run: Steps | None = None

    def prepare(self, windows: Sequence[Sequence[Prompt]], *, at_once: int) -> None:
        """Allocate the slots, and compile and capture a step of every size that may be run."""
        import torch

        self._release()
        new = self._decoding.max_new_tokens
        rows = self._tokens.rows(list(chain.from_iterable(windows)), max_new_tokens=new)
        slots = min(at_once, max(map(len, windows)))
        length = math.ceil((max(map(len, rows)) + new) / _ROUND) * _ROUND
        self._batches, self._lengths = batch_buckets(slots), length_buckets(length)
        with torch.no_grad():
            self._state = DeviceState(
                self._decoder,
                # Longer than any step reads: a size that may equal another is taken for a constant.
                self._decoder.allocate(slots=slots, length=length + _ROUND),
                choose=chooser(self._decoding.generation),
                end_tokens=self._end_tokens,
                steps=self._check_every,
            )
            self._run = self._steps(self._state)

    def _steps(self, state: DeviceState) -> Steps:
        if self._device.type != "cuda":
            return state.step
        captured = CapturedSteps(state.step)
        count = len(self._batches) * len(self._lengths)
        # The largest first: its memory then serves the others.
        for rows in reversed(self._batches):
            self._decoder.suit_experts(rows)
            for length in reversed(self._lengths):
                doing("compiling and capturing CUDA graphs", f"{len(captured) + 1} of {count}")
                state.begin_block()
                captured.capture(rows, length)
        return captured

    def facts(self) -> dict[str, Any]:
        """Slots, sizes and what of the step is compiled and captured."""
        captured = self._run if isinstance(self._run, CapturedSteps) else ()
        return {
            "kv_cache_tokens": self._lengths[-1],
            "slots": self._batches[-1],
            "batch_sizes": list(self._batches),
            "lengths": list(self._lengths),
            "cuda_graphs": len(captured),
            "compiled": self._decoder.compiled,
            "row_kernel": self._decoder.row_kernel,
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

    def decode(self, window: Window) -> Generator[Ended]:
        """Complete the prompts, as many together as there are slots at most; torch is seeded for
        them alone."""
        import torch

        assert self._state is not None and self._run is not None, "prepared first"
        ids = self._tokens.rows(window.prompts, max_new_tokens=window.max_new_tokens)
        torch.manual_seed(seed_of(window.seed, window.prompts[0]))
        loop = Loop(
            window,
            ids,
            state=self._state,
            run=self._run,
            batches=self._batches,
            lengths=self._lengths,
            check_every=self._check_every,
            begin=self._begin,
            pad_token=self._tokens.pad_token,
        )
        told = loop.decode()
        while True:
            # Not around the yield: it would hold for whoever takes what is told, too.
            with torch.no_grad():
                ended = next(told, None)
                if not self._state.finite():
                    raise not_finite(self._model.dtype, "in this window")
            if ended is None:
                return
            yield ended
