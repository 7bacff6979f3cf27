"""Any OpenAI-compatible server as an engine."""

from codejoule.generation.server.engine import ServerEngine
from codejoule.generation.server.identity import ServedModel, identify

__all__ = ["ServedModel", "ServerEngine", "identify"]
