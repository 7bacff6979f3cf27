"""From ``engine=`` to an engine."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from codejoule.config.schema import EngineConfig, EngineName, GenerationConfig
from codejoule.domain import Prompt
from codejoule.generation.engine import Engine
from codejoule.generation.generate import GenerateEngine
from codejoule.generation.text_stop import EndFinder

if TYPE_CHECKING:
    import transformers


def make_engine(
    config: EngineConfig,
    model: "transformers.PreTrainedModel",
    tokenizer: "transformers.PreTrainedTokenizerBase",
    *,
    generation: GenerationConfig,
    stop: Sequence[str],
    max_new_tokens: int,
    fixed_length: bool,
    program_end: Callable[[Prompt], EndFinder] | None = None,
) -> Engine:
    """The engine named by `config`, around `model`.

    With `fixed_length` every sequence has exactly `max_new_tokens` tokens: end tokens and stop
    strings count for nothing. `program_end` makes, for one sequence, what tells that its program
    is complete. Raises `UserError` for a model that the engine cannot decode.
    """
    kinds: Mapping[EngineName, Callable[..., Engine]] = {EngineName.generate: GenerateEngine}
    return kinds[config.name](
        model,
        tokenizer,
        generation=generation,
        stop=stop,
        max_new_tokens=max_new_tokens,
        fixed_length=fixed_length,
        program_end=program_end,
    )
