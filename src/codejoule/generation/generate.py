"""The engine ``generate``: Hugging Face `generate`, unchanged; the baseline."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from codejoule.domain import FIRST_TOKEN, Prompt
from codejoule.generation.compat import attention_implementation
from codejoule.generation.engine import Ended, LocalEngine, Window
from codejoule.generation.finite import not_finite
from codejoule.generation.sequence import DecodedSequence
from codejoule.generation.thinking import ThinkingBudget

if TYPE_CHECKING:
    import torch
    import transformers


class GenerateEngine(LocalEngine):
    """Completes batches with ``model.generate``, greedily or by sampling. The model's own
    generation defaults are set aside meanwhile: transformers 5 fills whatever is left open with
    them, and Qwen2.5-Instruct ships with a repetition penalty above 1, which changes greedy
    decoding. (BigCodeBench's own harness passes do_sample, temperature and top_p alone, so that its
    figures for such models are with that penalty; it passes no attention mask either.)."""

    def prepare(self, windows: Sequence[Sequence[Prompt]], *, at_once: int) -> None:
        """Nothing: nothing is compiled."""

    def facts(self) -> dict[str, Any]:
        """Which attention transformers has chosen."""
        return {
            "kv_cache_tokens": None,
            "compiled": False,
            "attention": attention_implementation(self._model),
        }

    def decode(self, window: Window) -> Generator[Ended]:
        """Complete the prompts as one batch; torch is seeded for it alone."""
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        prompts, do_sample = window.prompts, self._decoding.generation.do_sample
        assert len(prompts) <= window.at_once, "a batch is decoded at once"
        batch = self._tokens.batch(prompts, max_new_tokens=window.max_new_tokens)
        sequences = [self._begin(prompt) for prompt in prompts]
        watch = _LogitsWatch(self._model, do_sample=do_sample)
        if do_sample:
            torch.manual_seed(window.seed)
        with torch.inference_mode(), _without_defaults(self._model):
            self._model.generate(
                batch.ids,
                attention_mask=batch.mask,
                generation_config=self._settings(window.max_new_tokens),
                logits_processor=LogitsProcessorList([watch, *self._forced(sequences)]),
                stopping_criteria=StoppingCriteriaList([_TokenWatch(sequences, window.mark)]),
            )
        watch.check()
        completions = [
            sequence.completion(prompt_tokens=prompt_tokens)
            for sequence, prompt_tokens in zip(sequences, batch.lengths, strict=True)
        ]
        steps = max(completion.output_tokens for completion in completions) - 1
        yield Ended(
            completions=dict(enumerate(completions)),
            positions=len(prompts) * (batch.width + steps),
        )

    def _forced(self, sequences: Sequence[DecodedSequence]) -> list[ThinkingBudget]:
        """What takes a choice from the model. After the watch, which must see the model's own."""
        thinking = self._thinking
        if thinking is None or thinking.budget is None:
            return []
        return [ThinkingBudget(sequences, thinking)]

    def _settings(self, max_new_tokens: int) -> "transformers.GenerationConfig":
        return self._decoding.settings(
            max_new_tokens=max_new_tokens,
            end_tokens=self._end_tokens,
            pad_token=self._tokens.pad_token,
        )


ENGINE = GenerateEngine


class _TokenWatch:
    """A stopping criterion: marks the first token and feeds each row's tokens to its sequence.
    Reading the tokens waits for the GPU, which `generate` does at the same place of each step
    anyway (it asks whether any row is unfinished)."""

    def __init__(self, sequences: Sequence[DecodedSequence], mark: Callable[[str], None]) -> None:
        self._sequences = sequences
        self._mark = mark
        self._begun = False

    def __call__(
        self, input_ids: "torch.Tensor", scores: "torch.Tensor", **kwargs: Any
    ) -> "torch.Tensor":
        """Called by `generate` after each token; tells which rows have ended."""
        import torch

        if not self._begun:
            self._begun = True
            if input_ids.is_cuda:
                torch.cuda.synchronize(input_ids.device)
            self._mark(FIRST_TOKEN)
        newest = input_ids[:, -1].tolist()
        pairs = zip(self._sequences, newest, strict=True)
        ended = [sequence.feed(token) for sequence, token in pairs]
        return torch.tensor(ended, device=input_ids.device)


class _LogitsWatch:
    """A logits processor that adds up all logits of a batch, where they are. A sum is finite as
    long as each of them is. The host looks at it once, at the batch's end: a look at every step
    would wait for the GPU, and cost energy."""

    def __init__(self, model: "transformers.PreTrainedModel", *, do_sample: bool) -> None:
        self._model = model
        self._do_sample = do_sample
        self._sum: torch.Tensor | None = None

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        """Called by `generate` before each token is chosen."""
        import torch

        step = scores.sum(dtype=torch.float32)
        self._sum = step if self._sum is None else self._sum.add_(step)
        # Drawing from such scores ends in an error, on a GPU in one of the whole CUDA context.
        return scores.nan_to_num(posinf=0, neginf=0) if self._do_sample else scores

    def check(self) -> None:
        """Raises `UserError` where any of the logits was not finite. Waits for the device."""
        assert self._sum is not None
        if not self._sum.isfinite():
            raise not_finite(self._model.dtype, "in this batch")


@contextmanager
def _without_defaults(model: "transformers.PreTrainedModel") -> Iterator[None]:
    """Give the model transformers' own generation defaults, while inside."""
    from transformers import GenerationConfig as Settings

    own = model.generation_config
    model.generation_config = Settings()
    try:
        yield
    finally:
        model.generation_config = own
