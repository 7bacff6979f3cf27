"""A run's samples and verdicts in BigCodeBench's own formats."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codejoule.config.schema import Weights
from codejoule.domain import Status, Verdict
from codejoule.experiment.evaluation_stage import programs
from codejoule.experiment.journal_entries import BatchEntry
from codejoule.experiment.plan import Plan

if TYPE_CHECKING:
    from codejoule.evaluation import GroundTruth


def write_benchmark_files(
    plan: Plan,
    batches: Sequence[BatchEntry],
    verdicts: Mapping[tuple[str, int], tuple[Verdict, float | None]],
    truth: "GroundTruth | None",
    folder: Path,
) -> None:
    """Write ``samples.jsonl``; where samples were judged ``eval_results.json`` and
    ``pass_at_k.json`` (unless one could not be judged: then the run has no pass@k); and, where it
    is known, ``ground_truth.json``."""
    from codejoule.evaluation import write_eval_results, write_samples

    made = programs(plan, batches)
    rows = [{"task_id": c.task_id, "solution": s, "raw_solution": raw} for c, raw, s in made]
    write_samples(folder / "samples.jsonl", rows)
    if verdicts:
        in_order = [verdicts[c.task_id, c.sample][0] for c, _, _ in made]
        solutions = [solution for _, _, solution in made]
        write_eval_results(folder / "eval_results.json", in_order, solutions)
        _write_accuracy(plan, in_order, truth, folder)


def _write_accuracy(
    plan: Plan, verdicts: Sequence[Verdict], truth: "GroundTruth | None", folder: Path
) -> None:
    from codejoule.evaluation import subset_of, write_ground_truth, write_pass_at_k

    suite, config = plan.suite, plan.experiment.evaluator
    if all(verdict.status is not Status.unjudged for verdict in verdicts):
        write_pass_at_k(
            folder / "pass_at_k.json",
            verdicts,
            model=_upstream_name(plan),
            split=plan.experiment.suite.split.value,
            subset=subset_of(suite.name),
            gt_pass_rate=None if truth is None else truth.pass_rate,
            failed_tasks=None if truth is None else truth.failed_tasks,
        )
    if truth is not None:
        write_ground_truth(
            folder / "ground_truth.json",
            truth,
            suite=suite.name,
            checksum=suite.checksum,
            config=config,
            timeout_s=config.timeout_s or suite.timeout_s,
        )


def _upstream_name(plan: Plan) -> str:
    """The model as BigCodeBench's tools name it, ``OWNER--NAME--REVISION``; quantized weights
    with their method, for which those tools have no word."""
    model, quant = plan.experiment.model, plan.experiment.quant
    name = model.name
    if model.weights is Weights.hub and model.id is not None:
        name = f"{model.id.replace('/', '--')}--{model.revision}"
    return name if quant.bits is None else f"{name}--{quant.name}"
