"""The estimator's word on the time and energy of a run, beside what was measured."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from codejoule.domain import Workload
from codejoule.experiment.cards import known_card
from codejoule.experiment.journal_entries import BatchEntry
from codejoule.experiment.plan import Plan

if TYPE_CHECKING:
    from codejoule.estimate import Card, EngineSpeed, GenerationEstimate


def predicted_metrics(plan: Plan, batches: Sequence[BatchEntry]) -> dict[str, float]:
    """``predicted_*`` for the batches that ran, from their real numbers of tokens.

    Empty for windows in which waiting prompts take the place of others, on a CPU, on several
    GPUs, on a card that is not on file or whose peak rate is not known, with an engine or a
    family of models that the estimator does not know; without energy where the card's power
    limit is not known.
    """
    from codejoule.estimate import ENGINES

    card = known_card(plan.gpu_name) if len(plan.gpus) == 1 else None
    engine = ENGINES.get(plan.experiment.engine.name.value)
    if card is None or engine is None or plan.memory is None:
        return {}
    if any(len(entry.completions) > plan.experiment.batch.size for entry in batches):
        return {}
    estimates = [_estimate(plan, entry, card, engine) for entry in batches]
    known = [estimate for estimate in estimates if estimate is not None]
    if len(known) < len(estimates):
        return {}
    tokens = sum(c.output_tokens for entry in batches for c in entry.completions)
    latency_s = sum(estimate.latency_s for estimate in known)
    metrics = {
        "predicted_latency_s": latency_s,
        "predicted_ttft_s": sum(estimate.ttft_s for estimate in known) / len(known),
        "predicted_throughput_tokens_per_s": tokens / latency_s,
    }
    steps_s = [estimate.tpot_s for estimate in known if estimate.tpot_s is not None]
    if steps_s:
        metrics["predicted_tpot_s"] = sum(steps_s) / len(steps_s)
    energies_j = [estimate.energy_j for estimate in known if estimate.energy_j is not None]
    if len(energies_j) == len(known):
        metrics["predicted_energy_gpu_j"] = sum(energies_j)
        metrics["predicted_mean_power_w"] = sum(energies_j) / latency_s
    return metrics


def _estimate(
    plan: Plan, entry: BatchEntry, card: "Card", engine: "EngineSpeed"
) -> "GenerationEstimate | None":
    """Of one batch: padded to its longest prompt, as long as its longest completion."""
    from codejoule.estimate import POWER, estimate_generation

    assert plan.memory is not None
    work = plan.memory.workload
    ran = Workload(
        architecture=work.architecture,
        quantization=work.quantization,
        dtype=work.dtype,
        batch=len(entry.completions),
        prompt_tokens=max(c.prompt_tokens for c in entry.completions),
        new_tokens=max(1, *(c.output_tokens for c in entry.completions)),
    )
    return estimate_generation(ran, card=card, engine=engine, power=POWER)
