"""The files of a finished run: tables, what was loaded, and BigCodeBench's own formats."""

import json
import shutil
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from codejoule.common.lazily import Lazily
from codejoule.config import write_whole
from codejoule.config.schema import ExperimentConfig, Weights
from codejoule.config.typed import to_plain
from codejoule.domain import Status, Suite, TaskRecord
from codejoule.evaluation import (
    GroundTruth,
    Sample,
    subset_of,
    write_eval_results,
    write_ground_truth,
    write_pass_at_k,
    write_samples,
)
from codejoule.experiment.evaluation_stage import Bench
from codejoule.experiment.identity import environment
from codejoule.experiment.plan import Plan
from codejoule.experiment.programs import samples_of
from codejoule.experiment.records import Results
from codejoule.experiment.rounds import Asked
from codejoule.experiment.task_views import TABLE, task_table
from codejoule.experiment.verdicts import Verdicts
from codejoule.suites import raw_solution
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
    write_windows_parquet((entry.reading for entry in results.batches), folder / "windows.parquet")
    _write_prompts(plan, records, folder / "prompts.jsonl")
    every, last = samples_of(plan, results.answers, folder), _last(results)
    samples = Lazily(len(last), lambda number: every[last[number]])
    write_samples(folder / "samples.jsonl", _rows(plan, results, last, samples))
    write_task_table(records, samples, folder)
    if plan.experiment.generation.rounds > 1:
        write_tasks_parquet(attempts, folder / "rounds.parquet")
        write_samples(folder / "rounds.jsonl", _round_rows(results, every, asked))
    if results.judged.verdicts:
        bench, verdicts = Bench.of(plan, name=""), results.judged.verdicts
        write_judged(plan.experiment, plan.suite, bench, folder, verdicts, samples, truth)
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


def _last(results: Results) -> Sequence[int]:
    """The places of each sample's last answer, in the order of the requests."""
    if len(results.rounds) == 1:
        return range(len(results.answers))
    answers = (answer.completion for answer in results.answers)
    return list({(c.task_id, c.sample): place for place, c in enumerate(answers)}.values())


def _rows(
    plan: Plan, results: Results, last: Sequence[int], samples: Sequence[Sample]
) -> Iterator[Mapping[str, str]]:
    tasks, split, variant = plan.tasks, plan.experiment.suite.split, plan.variant
    for place, sample in zip(last, samples, strict=True):
        text = results.answers[place].completion.text
        raw = raw_solution(tasks[sample.task_id], text, split=split, variant=variant)
        yield {"task_id": sample.task_id, "solution": sample.solution, "raw_solution": raw}


def _round_rows(
    results: Results, samples: Sequence[Sample], asked: Asked
) -> Iterator[Mapping[str, str | int | None]]:
    """For each program of each round: what the model was asked, and what the shown tests said of
    its program."""
    for number, each in enumerate(results.rounds, start=1):
        for place in each.answers:
            sample = samples[place]
            shown = each.shown.verdicts.get((sample.task_id, sample.sample))
            yield {
                "task_id": sample.task_id,
                "sample": sample.sample,
                "round": number,
                "prompt": asked(number, sample.task_id, sample.sample),
                "solution": sample.solution,
                "shown_tests": None if shown is None else shown.reason,
            }


def write_json(path: Path, payload: Mapping[str, Any]) -> None:
    """Write facts as JSON."""
    write_whole(path, json.dumps(payload, indent=2, default=str) + "\n")


def _write_prompts(plan: Plan, records: Sequence[TaskRecord], path: Path) -> None:
    """A line per task: what the model was asked, chat template applied."""
    asked = dict.fromkeys(record.task_id for record in records)
    rows = [{"task_id": task_id, "prompt": plan.prompts[task_id].text} for task_id in asked]
    write_whole(path, "".join(f"{json.dumps(row)}\n" for row in rows))


def write_task_table(
    records: Sequence[TaskRecord], samples: Sequence[Sample], folder: Path
) -> None:
    """Write the table of tasks that MLflow shows."""
    write_json(folder / TABLE, task_table(records, samples))


def write_judged(
    experiment: ExperimentConfig,
    suite: Suite,
    bench: Bench,
    folder: Path,
    verdicts: Verdicts,
    samples: Sequence[Sample],
    truth: GroundTruth | None,
) -> None:
    """Write ``eval_results.json`` and ``pass_at_k.json`` (unless a sample has not been judged, or
    could not be: then the run has no pass@k); and, where it is known, ``ground_truth.json``. They
    have the samples in the order of `samples`."""
    judged = array(
        "q", (place for place, one in enumerate(samples) if (one.task_id, one.sample) in verdicts)
    )
    own = Lazily(len(judged), lambda number: samples[judged[number]])

    def key(number: int) -> tuple[str, int]:
        sample = own[number]
        return sample.task_id, sample.sample

    write_eval_results(
        folder / "eval_results.json",
        Lazily(len(own), lambda number: verdicts.whole(key(number))),
        Lazily(len(own), lambda number: own[number].solution),
    )
    outcomes = Lazily(len(own), lambda number: verdicts[key(number)])
    if len(own) == len(samples) and all(v.status is not Status.unjudged for v in outcomes):
        write_pass_at_k(
            folder / "pass_at_k.json",
            outcomes,
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
