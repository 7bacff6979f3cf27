"""The estimator's word on a run, beside what was measured."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codejoule.domain import Architecture, Quantization
from codejoule.experiment.cards import known_card
from codejoule.experiment.journal_entries import BatchEntry
from codejoule.experiment.plan import Plan

if TYPE_CHECKING:
    from codejoule.estimate import Card

_log = logging.getLogger(__name__)


def predicted_metrics(
    plan: Plan, model: dict[str, Any], batches: Sequence[BatchEntry]
) -> dict[str, float]:
    """``predicted_*`` for the batches that ran, from their real numbers of tokens.

    `model` are the facts of what was loaded. Empty on a CPU, on several GPUs, on a card that is
    not on file, with an engine or a family of models that the estimator does not know.
    """
    from codejoule.estimate import ENGINES

    card = known_card(plan.gpu_name) if len(plan.gpus) == 1 else None
    if card is None or plan.experiment.engine.name.value not in ENGINES:
        return {}
    quant = plan.experiment.quant
    try:
        architecture = Architecture.from_config(_config(plan))
        quantization = Quantization(
            method=quant.method.name, bits=quant.bits, group_size=model["group_size"]
        )
        return predict_batches(
            card,
            architecture,
            quantization,
            dtype=model["dtype"],
            engine=plan.experiment.engine.name.value,
            batches=batches,
        )
    except ValueError as error:
        _log.info("no prediction to log beside the measurement: %s", error)
        return {}


def predict_batches(
    card: "Card",
    architecture: Architecture,
    quantization: Quantization,
    *,
    dtype: str,
    engine: str,
    batches: Sequence[BatchEntry],
) -> dict[str, float]:
    """The same for a known card, architecture and engine; what cannot be told is absent.

    Raises ValueError for a group size that does not divide a layer.
    """
    from codejoule.estimate import ENGINES, POWER, estimate_generation, memory_needed

    lengths: list[dict[str, Any]] = [
        {
            "batch": len(entry.completions),
            "prompt_tokens": max(c.prompt_tokens for c in entry.completions),
            "new_tokens": max(1, *(c.output_tokens for c in entry.completions)),
            "dtype": dtype,
        }
        for entry in batches
    ]
    needed = [memory_needed(architecture, quantization, **length) for length in lengths]
    metrics = {"predicted_memory_peak_bytes": float(max(n.allocated_bytes for n in needed))}
    found = [
        estimate_generation(
            architecture, quantization, card=card, engine=ENGINES[engine], power=POWER, **length
        )
        for length in lengths
    ]
    known = [estimate for estimate in found if estimate is not None]
    if len(known) < len(found):
        return metrics
    tokens = sum(c.output_tokens for entry in batches for c in entry.completions)
    latency_s = sum(estimate.latency_s for estimate in known)
    steps_s = [estimate.tpot_s for estimate in known if estimate.tpot_s is not None]
    metrics |= {
        "predicted_latency_s": latency_s,
        "predicted_ttft_s": sum(estimate.ttft_s for estimate in known) / len(known),
        "predicted_throughput_tokens_per_s": tokens / latency_s,
    }
    if steps_s:
        metrics["predicted_tpot_s"] = sum(steps_s) / len(steps_s)
    energies_j = [estimate.energy_j for estimate in known if estimate.energy_j is not None]
    if len(energies_j) == len(known):
        metrics["predicted_energy_gpu_j"] = sum(energies_j)
        metrics["predicted_mean_power_w"] = sum(energies_j) / latency_s
    return metrics


def _config(plan: Plan) -> dict[str, Any]:
    """The ``config.json`` of what ran."""
    from codejoule.models.declared import read_config

    folder = plan.checkpoint.path
    return plan.experiment.model.architecture if folder is None else read_config(folder)
