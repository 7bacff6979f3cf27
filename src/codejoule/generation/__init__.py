"""Engines that turn prompts into completions."""

from codejoule.generation.engine import Engine
from codejoule.generation.generate import GenerateEngine
from codejoule.generation.text_stop import EndFinder

__all__ = ["EndFinder", "Engine", "GenerateEngine"]
