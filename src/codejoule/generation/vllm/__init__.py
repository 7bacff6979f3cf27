"""vLLM, started and checked by codejoule, in an environment of its own."""

from codejoule.generation.vllm.engine import VllmEngine

ENGINE = VllmEngine
