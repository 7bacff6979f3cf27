"""Weights: found, quantized, loaded, and proven to be what was asked for.

Finding and checking are cheap (no torch); loading and quantizing import what they need.
"""

from codejoule.models.check import (
    bundled_calibration_texts,
    check_capability,
    check_model_config,
)
from codejoule.models.checkpoint import (
    Checkpoint,
    config_of,
    describe_model,
    locate_checkpoint,
    locate_served,
    stored_modules,
)
from codejoule.models.facts import LoadedModel, ModelFacts
from codejoule.models.load import import_libraries, load_model, prepare_libraries
from codejoule.models.placement import write_config
from codejoule.models.quantize import quantize_checkpoint
from codejoule.models.tokenizer import end_token_owners, load_tokenizer

__all__ = [
    "Checkpoint",
    "LoadedModel",
    "ModelFacts",
    "bundled_calibration_texts",
    "check_capability",
    "check_model_config",
    "config_of",
    "describe_model",
    "end_token_owners",
    "import_libraries",
    "load_model",
    "load_tokenizer",
    "locate_checkpoint",
    "locate_served",
    "prepare_libraries",
    "quantize_checkpoint",
    "stored_modules",
    "write_config",
]
