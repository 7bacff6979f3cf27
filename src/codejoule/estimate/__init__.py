"""Size and speed of a model on a card, from its architecture; no model is loaded."""

from codejoule.estimate.calibration import MeasuredRun, calibrate_power, calibrate_speed
from codejoule.estimate.card import Card, read_card
from codejoule.estimate.generation import GenerationEstimate, estimate_generation
from codejoule.estimate.memory import (
    CONTEXT_BYTES,
    MemoryEstimate,
    kv_cache_bytes,
    kv_cache_bytes_per_token,
    largest_batch,
    memory_needed,
    place_layers,
)
from codejoule.estimate.speed import (
    ENGINE_SPEEDS,
    MEASURED_WITH,
    POWER,
    EngineSpeed,
    PowerModel,
)
from codejoule.estimate.weights import (
    ParameterCount,
    WeightBytes,
    bytes_by_layer,
    count_parameters,
    weight_bytes,
)
from codejoule.estimate.work import DecodeBound, decode_bound, decode_work, prefill_work

__all__ = [
    "CONTEXT_BYTES",
    "ENGINE_SPEEDS",
    "MEASURED_WITH",
    "POWER",
    "Card",
    "DecodeBound",
    "EngineSpeed",
    "GenerationEstimate",
    "MeasuredRun",
    "MemoryEstimate",
    "ParameterCount",
    "PowerModel",
    "WeightBytes",
    "bytes_by_layer",
    "calibrate_power",
    "calibrate_speed",
    "count_parameters",
    "decode_bound",
    "decode_work",
    "estimate_generation",
    "kv_cache_bytes",
    "kv_cache_bytes_per_token",
    "largest_batch",
    "memory_needed",
    "place_layers",
    "prefill_work",
    "read_card",
    "weight_bytes",
]
