"""The engine ``static``: Hugging Face `generate` with a static cache and a compiled step."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codejoule.config import UserError
from codejoule.domain import Prompt
from codejoule.generation.compat import has_compiled_step
from codejoule.generation.generate import GenerateEngine

if TYPE_CHECKING:
    import transformers

_COMPILED_WITHIN = 4
"""Tokens after which all that a decode step needs is compiled, and recorded where CUDA graphs
are."""


class StaticEngine(GenerateEngine):
    """Allocates the KV cache for the longest sequence of the run; on a GPU transformers then
    compiles the decode step."""

    _cache_tokens = 0

    def prepare(self, windows: Sequence[Sequence[Prompt]], *, at_once: int) -> None:
        """Decode a few tokens in batches of every size that there will be. Raises `UserError` where
        transformers decodes without compiling on a GPU."""
        new = self._decoding.max_new_tokens
        rows = [self._tokens.batch(window, max_new_tokens=new).width for window in windows]
        self._cache_tokens = max(rows) + new
        cut = [w[i : i + at_once] for w in windows for i in range(0, len(w), at_once)]
        for batch in {len(batch): batch for batch in cut}.values():
            self.warm_up(batch, tokens=_COMPILED_WITHIN)
        if self._model.device.type == "cuda" and not has_compiled_step(self._model):
            raise UserError(
                "engine=static: transformers does not compile the decode step of this model (of "
                "its quantization, or of a model on several devices), and would run it as "
                "engine=generate does; choose engine=graph or engine=generate"
            )

    def facts(self) -> dict[str, Any]:
        """The size of the cache, and whether the decode step is compiled."""
        return super().facts() | {
            "kv_cache_tokens": self._cache_tokens,
            "compiled": has_compiled_step(self._model),
        }

    def _settings(self, max_new_tokens: int) -> "transformers.GenerationConfig":
        settings = super()._settings(max_new_tokens)
        settings.cache_implementation = "static"
        settings.max_cache_len = self._cache_tokens
        return settings


ENGINE = StaticEngine
