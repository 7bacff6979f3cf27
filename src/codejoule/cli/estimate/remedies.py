"""What would make a configuration fit that does not."""

from dataclasses import replace
from typing import TYPE_CHECKING

from codejoule.config import ConfigError
from codejoule.config.choices import choices
from codejoule.config.schema import QuantConfig
from codejoule.experiment.cards import known_cards

if TYPE_CHECKING:
    from codejoule.cli.estimate.prediction import Prediction
    from codejoule.domain import Quantization


def remedies(prediction: "Prediction") -> tuple[str, ...]:
    """Changes of one setting each with which it fits, as overrides; empty where none does."""
    found = []
    if prediction.largest_batch:
        found.append(f"batch.size={prediction.largest_batch} (or less)")
    if quants := _quantizations(prediction):
        found.append(f"quant={', '.join(quants)}")
    cards = [
        card.name
        for card in known_cards()
        if card.memory_bytes >= prediction.memory.total_bytes and card.name != prediction.card.name
    ]
    if cards:
        found.append(f"gpu={', '.join(cards)}")
    return tuple(found)


def _quantizations(prediction: "Prediction") -> list[str]:
    from codejoule.estimate import memory_needed
    from codejoule.models import check_model_config
    from codejoule.models.group_size import quantization_of

    work = prediction.workload
    fitting = []
    for quant in choices("quant", QuantConfig):
        if quant.name == work.experiment.quant.name:
            continue
        try:
            check_model_config(work.experiment.model, quant)
            other: Quantization = quantization_of(quant, work.config)
            needed = memory_needed(replace(work, quantization=other))
        except (ConfigError, ValueError):
            continue  # this model cannot be quantized so
        if needed.total_bytes <= prediction.card.memory_bytes:
            fitting.append(quant.name)
    return fitting
