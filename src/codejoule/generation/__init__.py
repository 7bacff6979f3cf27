"""Engines that turn prompts into completions."""

from codejoule.generation.choice import make_engine
from codejoule.generation.decoding import Decoding
from codejoule.generation.engine import Decoded, Engine
from codejoule.generation.finite import check_logits
from codejoule.generation.generate import GenerateEngine
from codejoule.generation.server import ServedModel, ServerEngine, identify
from codejoule.generation.text_stop import EndFinder

__all__ = [
    "Decoded",
    "Decoding",
    "EndFinder",
    "Engine",
    "GenerateEngine",
    "ServedModel",
    "ServerEngine",
    "check_logits",
    "identify",
    "make_engine",
]
