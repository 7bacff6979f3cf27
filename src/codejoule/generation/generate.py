"""The engines ``generate`` (Hugging Face `generate`, unchanged: the baseline) and ``static``."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from codejoule.config import UserError
from codejoule.domain import Prompt
from codejoule.generation.decoding import Decoding
from codejoule.generation.endings import Endings
from codejoule.generation.engine import Decoded, unwatched
from codejoule.generation.finite import LogitsWatch
from codejoule.generation.settings import generation_settings
from codejoule.generation.tokens import PromptTokens
from codejoule.generation.watch import BatchWatch

if TYPE_CHECKING:
    import transformers


_COMPILED_WITHIN = 4
"""Tokens after which all that a decode step needs is compiled, and recorded where CUDA graphs
are."""


class GenerateEngine:
    """Completes batches with ``model.generate``, greedily or by sampling.

    The model's own generation defaults are set aside meanwhile: transformers 5 fills
    whatever is left open with them, and Qwen2.5-Instruct ships with a repetition penalty
    above 1, which changes greedy decoding. (BigCodeBench's own harness passes do_sample,
    temperature and top_p alone, so that its figures for such models are with that penalty;
    it passes no attention mask either.)

    With `static` the KV cache is allocated for the longest sequence of the run, and on a GPU
    transformers compiles the decode step.
    """

    def __init__(
        self,
        model: "transformers.PreTrainedModel",
        tokenizer: "transformers.PreTrainedTokenizerBase",
        decoding: Decoding,
        *,
        static: bool = False,
    ) -> None:
        self._model = model
        self._tokens = PromptTokens(model, tokenizer)
        self._generation = decoding.generation
        self._max_new_tokens = decoding.max_new_tokens
        self._endings = Endings(model, tokenizer, decoding)
        self.compiles = static
        self._cache_tokens = 0

    def prepare(self, windows: Sequence[Sequence[Prompt]], *, at_once: int) -> None:
        """With a static cache: decode a few tokens in batches of every size that there will be.

        Raises `UserError` where transformers decodes without compiling on a GPU.
        """
        if not self.compiles:
            return
        new = self._max_new_tokens
        rows = [self._tokens.batch(window, max_new_tokens=new).width for window in windows]
        self._cache_tokens = max(rows) + self._max_new_tokens
        cut = [w[i : i + at_once] for w in windows for i in range(0, len(w), at_once)]
        for batch in {len(batch): batch for batch in cut}.values():
            self.warm_up(batch, tokens=_COMPILED_WITHIN)
        if self._model.device.type == "cuda" and not hasattr(self._model, "_compiled_call"):
            raise UserError(
                "engine=static: transformers does not compile the decode step of this model (of "
                "its quantization, or of a model on several devices), and would run it as "
                "engine=generate does; choose engine=graph or engine=generate"
            )

    def facts(self) -> dict[str, Any]:
        """What holds the KV cache, and whether the decode step is compiled."""
        return {
            "kv_cache": "static" if self.compiles else "dynamic",
            "kv_cache_tokens": self._cache_tokens or None,
            "compiled": self.compiles and hasattr(self._model, "_compiled_call"),
            "attention": self._model.config._attn_implementation,
        }

    def close(self) -> None:
        """Nothing: it holds nothing but the model."""

    def warm_up(self, prompts: Sequence[Prompt], *, tokens: int) -> None:
        """Decode `prompts` for `tokens` new tokens each; what comes out is thrown away."""
        self._decode(prompts, seed=0, mark=lambda name: None, max_new_tokens=tokens)

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        at_once: int,
        seed: int,
        mark: Callable[[str], None],
        ended: Callable[[int], object] = unwatched,
    ) -> Decoded:
        """Complete `prompts` as one batch, in their order.

        `seed` seeds torch for this batch alone, so that a continued run draws the same
        samples. `mark` is called once, with `FIRST_TOKEN`. Raises `UserError` for a prompt
        that does not fit the model's context, and for logits that are not finite.
        """
        assert len(prompts) <= at_once, "a batch is decoded at once"
        decoded = self._decode(prompts, seed=seed, mark=mark, max_new_tokens=self._max_new_tokens)
        ended(len(prompts))
        return decoded

    def _decode(
        self,
        prompts: Sequence[Prompt],
        *,
        seed: int,
        mark: Callable[[str], None],
        max_new_tokens: int,
    ) -> Decoded:
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        batch = self._tokens.batch(prompts, max_new_tokens=max_new_tokens)
        sequences = [self._endings.begin(prompt) for prompt in prompts]
        watch = LogitsWatch(self._model, do_sample=self._generation.do_sample)
        if self._generation.do_sample:
            torch.manual_seed(seed)
        with torch.inference_mode(), _without_defaults(self._model):
            self._model.generate(
                batch.ids,
                attention_mask=batch.mask,
                generation_config=self._settings(max_new_tokens),
                logits_processor=LogitsProcessorList([watch]),
                stopping_criteria=StoppingCriteriaList([BatchWatch(sequences, mark=mark)]),
            )
        watch.check()
        completions = tuple(
            sequence.completion(prompt_tokens=prompt_tokens)
            for sequence, prompt_tokens in zip(sequences, batch.lengths, strict=True)
        )
        steps = max(completion.output_tokens for completion in completions) - 1
        positions = len(prompts) * (batch.width + steps)
        return Decoded(completions=completions, positions=positions)

    def _settings(self, max_new_tokens: int) -> "transformers.GenerationConfig":
        settings = generation_settings(
            self._generation,
            max_new_tokens=max_new_tokens,
            end_tokens=self._endings.end_tokens,
            pad_token=self._tokens.pad_token,
        )
        if self.compiles:
            settings.cache_implementation = "static"
            settings.max_cache_len = self._cache_tokens
        return settings


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
