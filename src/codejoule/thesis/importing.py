"""The thesis' published results in MLflow, beside one's own."""

from dataclasses import astuple

from codejoule.domain.accuracy import wilson_interval
from codejoule.domain.metrics import J_PER_KWH
from codejoule.thesis.results import CITATION, GPU, TASKS, PublishedResult, published_configurations
from codejoule.tracking import PublishedRun, Store, record_published

_DERIVED = (
    "energy_generation_j", "energy_gpu_net_j", "energy_per_output_token_j", "energy_per_task_j",
    "energy_per_solved_task_j", "latency_s", "mean_power_w", "output_tokens", "pass_at_1_ci_low",
    "pass_at_1_ci_high",
)  # fmt: skip
"""Metrics worked out from the printed ones."""
_ENERGY_NOTE = (
    "GPU, idle power subtracted, generation with evaluation (thesis, sections 3.1 and 3.2); the "
    "thesis does not separate the two, and evaluation uses no GPU"
)


def import_results(store: Store) -> tuple[int, int]:
    """Add what the store does not have; how many were added, and how many were there."""
    runs = [published_run(row) for row in published_configurations()]
    return record_published(store, runs, sweep="thesis", command="thesis import")


def published_run(row: PublishedResult) -> PublishedRun:
    """The row as it is recorded."""
    return PublishedRun(
        identity=f"thesis {astuple(row)}",
        name=f"thesis-{row.model}-{row.quant}-b{row.batch_size}",
        source=CITATION,
        params={
            "model.name": row.model,
            "quant.name": row.quant,
            "batch.size": row.batch_size,
            "generation.name": "greedy",
            "suite.name": "bigcodebench",
            "repeat": 1,
        },
        metrics=published_metrics(row),
        tags=_tags(row),
    )


def published_metrics(row: PublishedResult) -> dict[str, float]:
    """The row's figures under the names that runs have them, and what follows from them."""
    energy_j, latency_s = row.energy_kwh * J_PER_KWH, 60 * row.latency_min
    tokens = row.throughput_tokens_per_s * latency_s
    low, high = wilson_interval(round(row.pass_at_1 * TASKS), TASKS)
    return {
        "tasks": TASKS,
        "energy_total_kwh": row.energy_kwh,
        "energy_generation_j": energy_j,
        "energy_gpu_net_j": energy_j,
        "latency_s": latency_s,
        "throughput_tokens_per_s": row.throughput_tokens_per_s,
        "output_tokens": tokens,
        "mean_power_w": energy_j / latency_s,
        "energy_per_output_token_j": energy_j / tokens,
        "energy_per_task_j": energy_j / TASKS,
        "energy_per_solved_task_j": energy_j / (row.pass_at_1 * TASKS),
        "pass_at_1": row.pass_at_1,
        "pass_at_1_ci_low": low,
        "pass_at_1_ci_high": high,
        "pass_at_1_per_kwh": row.pass_at_1_per_kwh or row.pass_at_1 / row.energy_kwh,
    }


def _tags(row: PublishedResult) -> dict[str, str]:
    derived = [*_DERIVED, *([] if row.pass_at_1_per_kwh else ["pass_at_1_per_kwh"])]
    batch = "" if row.table != "5.18" else " Its batch is of samples of one task."
    return {
        "codejoule.source_table": row.table,
        "codejoule.source_model": row.printed_model,
        "codejoule.derived": ", ".join(derived),
        "codejoule.energy_source_evaluation": "published",
        "codejoule.energy_note": _ENERGY_NOTE,
        "codejoule.weights": "hub",
        "codejoule.length": "free",
        "codejoule.gpu": GPU,
        "mlflow.note.content": f"Published, not measured here: {row.printed_model} in table "
        f"{row.table} of {CITATION}.{batch}",
    }
