"""The baseline engine: Hugging Face `generate`, unchanged."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from codejoule.config.schema import GenerationConfig
from codejoule.domain import Prompt
from codejoule.generation.endings import Endings
from codejoule.generation.engine import Decoded
from codejoule.generation.text_stop import EndFinder
from codejoule.generation.tokens import tokenize
from codejoule.generation.watch import BatchWatch

if TYPE_CHECKING:
    import transformers


class GenerateEngine:
    """Completes batches with ``model.generate``, greedily or by sampling.

    The model's own generation defaults are set aside meanwhile: transformers 5 fills
    whatever is left open with them, and Qwen2.5-Instruct ships with a repetition penalty
    above 1, which changes greedy decoding. (BigCodeBench's own harness passes do_sample,
    temperature and top_p alone, so that its figures for such models are with that penalty;
    it passes no attention mask either.)
    """

    def __init__(
        self,
        model: "transformers.PreTrainedModel",
        tokenizer: "transformers.PreTrainedTokenizerBase",
        *,
        generation: GenerationConfig,
        stop: Sequence[str],
        max_new_tokens: int,
        fixed_length: bool,
        program_end: Callable[[Prompt], EndFinder] | None = None,
    ) -> None:
        """With `fixed_length` every sequence has exactly `max_new_tokens` tokens: end tokens
        and stop strings count for nothing. `program_end` makes, for one sequence, what tells
        that its program is complete."""
        self._model = model
        self._tokenizer = tokenizer
        self._generation = generation
        self._max_new_tokens = max_new_tokens
        self._endings = Endings(
            model, tokenizer, stop=stop, program_end=program_end, fixed_length=fixed_length
        )
        self._context_tokens = getattr(model.config, "max_position_embeddings", None)

    compiles = False

    def prepare(self, windows: Sequence[Sequence[Prompt]], *, at_once: int) -> None:
        """Nothing: this engine compiles nothing."""

    def close(self) -> None:
        """Nothing: it holds nothing but the model."""

    def warm_up(self, prompts: Sequence[Prompt], *, tokens: int) -> None:
        """Decode `prompts` for `tokens` new tokens each; what comes out is thrown away."""
        self._decode(prompts, seed=0, mark=lambda name: None, max_new_tokens=tokens)

    def generate(
        self, prompts: Sequence[Prompt], *, at_once: int, seed: int, mark: Callable[[str], None]
    ) -> Decoded:
        """Complete `prompts` as one batch, in their order.

        `seed` seeds torch for this batch alone, so that a continued run draws the same
        samples. `mark` is called once, with `FIRST_TOKEN`. Raises `UserError` for a prompt
        that does not fit the model's context.
        """
        assert len(prompts) <= at_once, "a batch is decoded at once"
        return self._decode(prompts, seed=seed, mark=mark, max_new_tokens=self._max_new_tokens)

    def _decode(
        self,
        prompts: Sequence[Prompt],
        *,
        seed: int,
        mark: Callable[[str], None],
        max_new_tokens: int,
    ) -> Decoded:
        import torch
        from transformers import StoppingCriteriaList

        batch = tokenize(
            prompts,
            self._tokenizer,
            device=self._model.device,
            context_tokens=self._context_tokens,
            max_new_tokens=max_new_tokens,
        )
        sequences = [self._endings.begin(prompt) for prompt in prompts]
        if self._generation.do_sample:
            torch.manual_seed(seed)
        with torch.inference_mode(), _without_defaults(self._model):
            self._model.generate(
                batch.ids,
                attention_mask=batch.mask,
                generation_config=self._settings(max_new_tokens),
                stopping_criteria=StoppingCriteriaList([BatchWatch(sequences, mark=mark)]),
            )
        completions = tuple(
            sequence.completion(prompt_tokens=prompt_tokens)
            for sequence, prompt_tokens in zip(sequences, batch.lengths, strict=True)
        )
        steps = max(completion.output_tokens for completion in completions) - 1
        positions = len(prompts) * (batch.width + steps)
        return Decoded(completions=completions, positions=positions)

    def _settings(self, max_new_tokens: int) -> "transformers.GenerationConfig":
        """Every setting that shapes the text, said aloud."""
        from transformers import GenerationConfig as Settings

        chosen: dict[str, Any] = {
            "do_sample": self._generation.do_sample,
            "num_beams": 1,
            "repetition_penalty": 1.0,
            "max_new_tokens": max_new_tokens,
            "eos_token_id": list(self._endings.end_tokens) or None,
            "pad_token_id": self._tokenizer.pad_token_id,
            "use_cache": True,
        }
        if self._generation.do_sample:
            top_p = self._generation.top_p
            chosen |= {
                "temperature": self._generation.temperature,
                "top_p": 1.0 if top_p is None else top_p,
                # transformers' default of 50 would cut the tail that top_p leaves.
                "top_k": 0,
            }
        return Settings(**chosen)


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
