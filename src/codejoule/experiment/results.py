"""From the journal to MLflow: metrics, tags and artifacts of a finished run."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path

from codejoule.config.schema import Weights
from codejoule.experiment.artifacts import write_artifacts
from codejoule.experiment.evaluation_stage import known_ground_truth
from codejoule.experiment.metrics import metrics_of
from codejoule.experiment.plan import Plan
from codejoule.experiment.records import Results, read_results, task_records
from codejoule.tracking import TrackedRun

logger = logging.getLogger(__name__)


def log_results(plan: Plan, folder: Path, artifacts: Path, tracked: TrackedRun) -> None:
    """Write the artifacts of a run that has generated and judged everything, and log them. `folder`
    has its journal; `artifacts` is made anew."""
    results, truth = read_results(folder), known_ground_truth(plan)
    records = task_records(plan, results.batches, results.verdicts)
    metrics = metrics_of(plan, results, records, truth)
    tracked.log(
        metrics=metrics,
        tags=tags_of(plan, results) | crosscheck(plan, metrics) | _concurrent(results),
        artifacts=write_artifacts(plan, artifacts, results, records, truth),
        dataset=plan.suite,
    )


def tags_of(plan: Plan, results: Results) -> dict[str, str]:
    """How its figures came about."""
    load = results.load
    fixed = plan.experiment.model.weights is Weights.random
    tags = {
        "codejoule.energy_source": load.meter.source.value,
        "codejoule.energy_scope": load.meter.scope.value,
        "codejoule.length": "fixed" if fixed else "free",
        "codejoule.device": load.device,
        "codejoule.dtype": load.dtype,
        "codejoule.kernels": load.kernels,
        "codejoule.sessions": str(results.loads),
    }
    unresolved = sum(math.isnan(entry.reading.energy_j) for entry in results.batches)
    if unresolved:
        # Windows shorter than a tick of the counter: the run's energy is then not known.
        tags["codejoule.unresolved_windows"] = str(unresolved)
    if plan.experiment.engine.facts.runs_already:
        tags["codejoule.proof"] = "none: served"
    if results.out_of_memory:
        tags["codejoule.out_of_memory"] = str(len(results.out_of_memory))
        tags["codejoule.batch_reduced_to"] = str(results.out_of_memory[-1].reduced_to)
    if plan.gpus:
        tags["codejoule.gpu"] = plan.gpu_name
    if results.evaluation_source is not None:
        tags["codejoule.energy_source_evaluation"] = results.evaluation_source.value
    if results.sandbox is not None:
        tags["codejoule.sandbox"] = results.sandbox.launcher
    return tags


def crosscheck(plan: Plan, metrics: Mapping[str, float]) -> dict[str, str]:
    """Whether both methods agree on the energy of generation; nothing where one is missing."""
    difference = metrics.get("energy_crosscheck_rel")
    if difference is None:
        return {}
    threshold = plan.experiment.meter.crosscheck_threshold
    if abs(difference) <= threshold:
        return {"codejoule.energy_crosscheck": "agrees"}
    logger.warning(
        "energy of generation: integrated power differs from the counter by %+.1f %%, more than "
        "meter.crosscheck_threshold=%g allows. Very short runs differ by chance; otherwise look "
        "at power.parquet and at what else used the GPU before you trust the figure",
        100 * difference,
        threshold,
    )
    return {"codejoule.energy_crosscheck": "differs"}


def _concurrent(results: Results) -> dict[str, str]:
    """Which other jobs worked meanwhile, and how many at most in one window; nothing where the
    run was alone."""
    jobs = sorted(frozenset().union(*results.concurrent))
    if not jobs:
        return {}
    logger.warning(
        "other jobs of codejoule worked while this one was measured, which changes its energy: %s. "
        "The analysis compares it with no run that was alone; on_finished=rerun measures it again",
        "; ".join(jobs),
    )
    most = max(map(len, results.concurrent))
    return {"codejoule.concurrent": str(most), "codejoule.concurrent_jobs": "; ".join(jobs)}
