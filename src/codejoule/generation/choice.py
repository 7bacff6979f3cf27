"""From ``engine=`` to an engine."""

from typing import TYPE_CHECKING

from codejoule.config.schema import EngineConfig, EngineName
from codejoule.generation.continuous import ContinuousEngine
from codejoule.generation.decoding import Decoding
from codejoule.generation.engine import Engine
from codejoule.generation.generate import GenerateEngine
from codejoule.generation.graph import GraphEngine

if TYPE_CHECKING:
    import transformers


def make_engine(
    config: EngineConfig,
    model: "transformers.PreTrainedModel",
    tokenizer: "transformers.PreTrainedTokenizerBase",
    decoding: Decoding,
) -> Engine:
    """The engine named by `config`, around `model`; a server has a model of its own.

    Raises `UserError` for a model that the engine cannot decode.
    """
    match config.name:
        case EngineName.generate:
            return GenerateEngine(model, tokenizer, decoding)
        case EngineName.static:
            return GenerateEngine(model, tokenizer, decoding, static=True)
        case EngineName.graph:
            every = config.check_every or 8
            return GraphEngine(
                model, tokenizer, decoding, compiled=config.compile, check_every=every
            )
        case EngineName.continuous:
            return ContinuousEngine(model, tokenizer, decoding)
        case EngineName.server:
            raise ValueError("a server has its own model: make a ServerEngine")
