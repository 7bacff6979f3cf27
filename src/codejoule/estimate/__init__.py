"""Size and speed of a model on a card, from its architecture; no model is loaded."""

from codejoule.estimate.activations import activation_bytes
from codejoule.estimate.by_layer import LayerBytes, bytes_by_layer
from codejoule.estimate.card import Card, read_card
from codejoule.estimate.decode_bound import DecodeBound, decode_bound
from codejoule.estimate.kv_cache import (
    cached_tokens,
    expanded_cache_bytes_per_token,
    kv_cache_bytes_per_token,
)
from codejoule.estimate.largest_batch import largest_batch
from codejoule.estimate.layers import LinearLayers, linear_layers
from codejoule.estimate.memory import MemoryEstimate, memory_needed
from codejoule.estimate.parameters import ParameterCount, count_parameters
from codejoule.estimate.weights import WeightBytes, weight_bytes

__all__ = [
    "Card",
    "DecodeBound",
    "LayerBytes",
    "LinearLayers",
    "MemoryEstimate",
    "ParameterCount",
    "WeightBytes",
    "activation_bytes",
    "bytes_by_layer",
    "cached_tokens",
    "count_parameters",
    "decode_bound",
    "expanded_cache_bytes_per_token",
    "kv_cache_bytes_per_token",
    "largest_batch",
    "linear_layers",
    "memory_needed",
    "read_card",
    "weight_bytes",
]
