"""Size and speed of a model on a card, from its architecture; no model is loaded."""

from codejoule.estimate.activations import activation_bytes
from codejoule.estimate.by_layer import LayerBytes, bytes_by_layer
from codejoule.estimate.calibration import (
    MeasuredRun,
    calibrate_power,
    calibrate_speed,
    predicted,
)
from codejoule.estimate.card import Card, read_card
from codejoule.estimate.decode_bound import DecodeBound, decode_bound
from codejoule.estimate.engine_speed import EngineSpeed
from codejoule.estimate.engines import ENGINES, POWER
from codejoule.estimate.generation import GenerationEstimate, estimate_generation
from codejoule.estimate.kv_cache import (
    cached_tokens,
    expanded_cache_bytes_per_token,
    kv_cache_bytes_per_token,
)
from codejoule.estimate.largest_batch import largest_batch
from codejoule.estimate.layers import LinearLayers, linear_layers
from codejoule.estimate.memory import MemoryEstimate, memory_needed
from codejoule.estimate.parameters import ParameterCount, count_parameters
from codejoule.estimate.power_model import IDLE_SHARE, PowerModel, idle_power_w
from codejoule.estimate.weights import WeightBytes, weight_bytes
from codejoule.estimate.work import Work, decode_work, prefill_work
from codejoule.estimate.workload import Workload

__all__ = [
    "ENGINES",
    "IDLE_SHARE",
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
    "Workload",
    "activation_bytes",
    "bytes_by_layer",
    "cached_tokens",
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
