"""Any OpenAI-compatible server as an engine."""

from codejoule.generation.server.engine import ServerEngine

ENGINE = ServerEngine
