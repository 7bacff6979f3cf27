"""codejoule's decode loop: static slots, whole steps as CUDA graphs."""

from codejoule.generation.graph.engine import GraphEngine

ENGINE = GraphEngine
