"""From ``engine=`` to an engine."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from codejoule.config.schema import EngineConfig, EngineName, GenerationConfig
from codejoule.domain import Prompt
from codejoule.generation.continuous import ContinuousEngine
from codejoule.generation.engine import Engine
from codejoule.generation.generate import GenerateEngine
from codejoule.generation.graph import GraphEngine
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
    make: Callable[..., Engine]
    match config.name:
        case EngineName.generate:
            make = GenerateEngine
        case EngineName.static:
            make = partial(GenerateEngine, static=True)
        case EngineName.graph:
            make = partial(
                GraphEngine, compiled=config.compile, check_every=config.check_every or 8
            )
        case EngineName.continuous:
            make = ContinuousEngine
        case EngineName.server:
            raise ValueError("a server has its own model: make a ServerEngine")
    return make(
        model,
        tokenizer,
        generation=generation,
        stop=stop,
        max_new_tokens=max_new_tokens,
        fixed_length=fixed_length,
        program_end=program_end,
    )
