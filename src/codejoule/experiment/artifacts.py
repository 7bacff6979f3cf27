"""The files of a finished run: tables, what was loaded, and BigCodeBench's own formats."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from codejoule.config import write_whole
from codejoule.config.schema import ExperimentConfig, Weights
from codejoule.config.typed import to_plain
from codejoule.domain import Status, Suite, TaskRecord, Verdict
from codejoule.evaluation import (
    GroundTruth,
    subset_of,
    write_eval_results,
    write_ground_truth,
    write_pass_at_k,
    write_samples,
)
from codejoule.experiment.evaluation_stage import Bench
from codejoule.experiment.identity import environment
from codejoule.experiment.plan import Plan
from codejoule.experiment.records import Results
from codejoule.experiment.rounds import Asked, programs
from codejoule.experiment.task_views import TABLE, task_table
from codejoule.tracking import (
    power_figure,
    write_power_parquet,
    write_tasks_parquet,
    write_windows_parquet,
)

IDENTITY = "identity.json"
"""What the run's fingerprint is the hash of."""


def write_artifacts(
    plan: Plan,
    folder: Path,
    results: Results,
    records: Sequence[TaskRecord],
    truth: GroundTruth | None,
    attempts: Sequence[TaskRecord],
    asked: Asked,
) -> list[Path]:
    """Make `folder` anew with every artifact; the files. `attempts` are those of all rounds, each
    of which answers what was `asked`."""
    shutil.rmtree(folder, ignore_errors=True)
    write_tasks_parquet(records, folder / "tasks.parquet")
    write_power_parquet(results.power, folder / "power.parquet")
    write_windows_parquet([entry.reading for entry in results.batches], folder / "windows.parquet")
    _write_prompts(plan, records, folder / "prompts.jsonl")
    made = programs(plan, results.batches)
    solutions = [solution for _, _, solution in made]
    write_task_table(records, solutions, folder)
    if plan.experiment.generation.rounds > 1:
        write_tasks_parquet(attempts, folder / "rounds.parquet")
        _write_rounds(plan, results, asked, folder / "rounds.jsonl")
    rows = [{"task_id": c.task_id, "solution": s, "raw_solution": raw} for c, raw, s in made]
    write_samples(folder / "samples.jsonl", rows)
    if results.judged.verdicts:
        write_judged(
            plan.experiment,
            plan.suite,
            Bench.of(plan, name=""),
            folder,
            [results.judged.verdicts.get((c.task_id, c.sample)) for c, _, _ in made],
            solutions,
            truth,
        )
    config = yaml.safe_dump(to_plain(plan.experiment), sort_keys=False)
    write_whole(folder / "config.yaml", config)
    write_json(folder / IDENTITY, plan.identity)
    write_json(folder / "environment.json", environment(plan.hardware))
    write_json(folder / "model.json", results.load.model)
    write_json(folder / "engine.json", results.engine.facts)
    if results.judged.sandbox is not None:
        write_json(folder / "sandbox.json", results.judged.sandbox.facts)
    if results.power:
        source = results.load.meter.source
        power_figure(results.power, folder / "power.svg", source=source)
    return sorted(folder.iterdir())


def write_json(path: Path, payload: Mapping[str, Any]) -> None:
    """Write facts as JSON."""
    write_whole(path, json.dumps(payload, indent=2, default=str) + "\n")


def _write_prompts(plan: Plan, records: Sequence[TaskRecord], path: Path) -> None:
    """A line per task: what the model was asked, chat template applied."""
    asked = dict.fromkeys(record.task_id for record in records)
    rows = [{"task_id": task_id, "prompt": plan.prompts[task_id].text} for task_id in asked]
    write_whole(path, "".join(f"{json.dumps(row)}\n" for row in rows))


def _write_rounds(plan: Plan, results: Results, asked: Asked, path: Path) -> None:
    """A line per program of each round: what the model was asked, and what the shown tests said of
    its program."""
    rows = []
    for number, each in enumerate(results.rounds, start=1):
        for completion, _, solution in programs(plan, each.batches):
            key = completion.task_id, completion.sample
            shown = each.shown.verdicts.get(key)
            rows.append(
                {
                    "task_id": completion.task_id,
                    "sample": completion.sample,
                    "round": number,
                    "prompt": asked[number, *key],
                    "solution": solution,
                    "shown_tests": None if shown is None else shown.reason,
                }
            )
    write_whole(path, "".join(f"{json.dumps(row)}\n" for row in rows))


def write_task_table(records: Sequence[TaskRecord], solutions: Sequence[str], folder: Path) -> None:
    """Write the table of tasks that MLflow shows."""
    write_json(folder / TABLE, task_table(records, solutions))


def write_judged(
    experiment: ExperimentConfig,
    suite: Suite,
    bench: Bench,
    folder: Path,
    verdicts: Sequence[Verdict | None],
    solutions: Sequence[str],
    truth: GroundTruth | None,
) -> None:
    """Write ``eval_results.json`` and ``pass_at_k.json`` (unless a sample has not been judged, or
    could not be: then the run has no pass@k); and, where it is known, ``ground_truth.json``.
    `solutions` are the programs of the `verdicts`."""
    judged = [(v, s) for v, s in zip(verdicts, solutions, strict=True) if v is not None]
    own = [verdict for verdict, _ in judged]
    write_eval_results(folder / "eval_results.json", own, [solution for _, solution in judged])
    if len(own) == len(verdicts) and all(v.status is not Status.unjudged for v in own):
        write_pass_at_k(
            folder / "pass_at_k.json",
            own,
            model=_upstream_name(experiment),
            split=experiment.suite.split.value,
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
            config=bench.evaluator,
            timeout_s=bench.timeout_s,
        )


def _upstream_name(experiment: ExperimentConfig) -> str:
    """The model as BigCodeBench's tools name it, ``OWNER--NAME--REVISION``; quantized weights
    with their method, for which those tools have no word."""
    model, quant = experiment.model, experiment.quant
    name = model.name
    if model.weights is Weights.hub and model.id is not None:
        name = f"{model.id.replace('/', '--')}--{model.revision}"
    return name if quant.bits is None else f"{name}--{quant.name}"
