"""Size and speed of a model on a card, from its architecture; no model is loaded."""

from codejoule.domain import LinearLayers, linear_layers
from codejoule.estimate.activations import activation_bytes
from codejoule.estimate.calibration import (
    MeasuredRun,
    calibrate_power,
    calibrate_speed,
    predicted,
)
from codejoule.estimate.card import Card, read_card
from codejoule.estimate.decode_bound import DecodeBound, decode_bound
from codejoule.estimate.footprint import (
    CONTEXT_BYTES,
    MemoryEstimate,
    largest_batch,
    memory_needed,
)
from codejoule.estimate.generation import GenerationEstimate, estimate_generation
from codejoule.estimate.kv_cache import (
    expanded_cache_bytes_per_token,
    kv_cache_bytes_per_token,
)
from codejoule.estimate.parameters import ParameterCount, count_parameters
from codejoule.estimate.power import IDLE_SHARE, POWER, PowerModel, idle_power_w
from codejoule.estimate.speed import ENGINE_SPEEDS, MEASURED_WITH, EngineSpeed
from codejoule.estimate.weights import LayerBytes, WeightBytes, bytes_by_layer, weight_bytes
from codejoule.estimate.work import Work, decode_work, prefill_work

__all__ = [
    "CONTEXT_BYTES",
    "ENGINE_SPEEDS",
    "IDLE_SHARE",
    "MEASURED_WITH",
    "POWER",
    "Card",
    "DecodeBound",
    "EngineSpeed",
    "GenerationEstimate",
    "LayerBytes",
    "LinearLayers",
    "MeasuredRun",
    "MemoryEstimate",
    "ParameterCount",
    "PowerModel",
    "WeightBytes",
    "Work",
    "activation_bytes",
    "bytes_by_layer",
    "calibrate_power",
    "calibrate_speed",
    "count_parameters",
    "decode_bound",
    "decode_work",
    "estimate_generation",
    "expanded_cache_bytes_per_token",
    "idle_power_w",
    "kv_cache_bytes_per_token",
    "largest_batch",
    "linear_layers",
    "memory_needed",
    "predicted",
    "prefill_work",
    "read_card",
    "weight_bytes",
]
