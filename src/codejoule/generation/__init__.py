"""Engines that turn prompts into completions."""

from codejoule.generation.decoding import Decoding
from codejoule.generation.engine import (
    Decoded,
    Ended,
    Engine,
    ModelSource,
    ServedModel,
    engine_class,
    make_engine,
)
from codejoule.generation.finite import check_logits
from codejoule.generation.text_stop import EndFinder

__all__ = [
    "Decoded",
    "Decoding",
    "EndFinder",
    "Ended",
    "Engine",
    "ModelSource",
    "ServedModel",
    "check_logits",
    "engine_class",
    "make_engine",
]
