"""vLLM, started and proven by us, in an environment of its own."""

from codejoule.generation.vllm.engine import VllmEngine

ENGINE = VllmEngine
