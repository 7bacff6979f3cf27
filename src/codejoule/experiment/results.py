"""From the journal to MLflow: records, metrics, tags and artifacts of a finished run."""

import json
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from codejoule.config import write_whole
from codejoule.config.schema import Weights
from codejoule.config.typed import to_plain
from codejoule.domain import (
    FIRST_TOKEN,
    BatchEnergy,
    EnergyReading,
    EnergySource,
    Pace,
    Status,
    TaskRecord,
    Verdict,
    attribute_energy,
    prefill_part,
)
from codejoule.domain.metrics import RunFacts, WindowFacts, run_metrics
from codejoule.experiment.batch_limit import OUT_OF_MEMORY
from codejoule.experiment.benchmark_files import write_benchmark_files
from codejoule.experiment.evaluation_stage import known_ground_truth
from codejoule.experiment.journal_entries import (
    BatchEntry,
    reading_from_json,
    verdicts_from_json,
)
from codejoule.experiment.machine import environment
from codejoule.experiment.plan import Plan
from codejoule.experiment.prediction import predicted_metrics

if TYPE_CHECKING:
    from codejoule.evaluation import GroundTruth
    from codejoule.tracking import DatasetFacts, TrackedRun

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a finished journal says."""

    batches: tuple[BatchEntry, ...]
    """In the order of the requests."""
    verdicts: Mapping[tuple[str, int], tuple[Verdict, float | None]]
    """Verdict and evaluation energy [J] (None: not measured) by task and sample; empty without
    an evaluator."""
    evaluation_source: EnergySource | None
    """How evaluation energy was obtained; None without an evaluator."""
    sandbox: Mapping[str, Any] | None
    """What isolated the samples when they were judged last; None without an evaluator."""
    load: Mapping[str, Any]
    """The last load of the model: its reading, what was loaded, what metered it."""
    quantize: EnergyReading | None
    """Quantizing the weights, by this run or by the earlier one whose checkpoint it found; None
    where no run here did, or where that one's energy came from another source."""
    engine: Mapping[str, Any]
    """How the engine decoded when it was set up last."""
    compile: tuple[EnergyReading, ...]
    """Every time that the engine compiled and captured what it runs."""
    loads: int
    """How often the model was loaded: more than once means that the run was continued."""
    idle_power_w: float | None
    """Idle power of the GPUs in use [W]."""
    temperature_start_c: float | None
    """Temperature of the warmest GPU in use before the first batch [degrees Celsius]."""
    cooldown_s: float | None
    """Time spent waiting for the GPUs to cool down [s]; None where the run does not wait."""
    power: tuple[Mapping[str, Any], ...]
    """Power samples of all sessions."""
    concurrent: tuple[frozenset[str], ...]
    """Other jobs of codejoule at work during each metered window of generation and evaluation."""
    out_of_memory: tuple[Mapping[str, Any], ...]
    """Attempts that ran out of memory, and what the batch was then reduced to."""


def read_results(folder: Path) -> Results:
    """The journal in `folder`, typed."""
    from codejoule.tracking import Journal

    with Journal(folder) as journal:
        entries = journal.entries
        batches = sorted(map(BatchEntry.from_json, entries("batch")), key=_order)
        judged = entries("verdicts")
        source = EnergySource(judged[0]["source"]) if judged else None
        verdicts = _reallocated(verdicts_from_json(judged), source)
        idle = entries("idle")
        loads = entries("load")
        quantized = entries("quantize")
        cooled = entries("cooldown")
        sandboxes = entries("sandbox")
        return Results(
            batches=tuple(batches),
            verdicts={(v.task_id, v.sample): (v, j) for v, j in verdicts},
            evaluation_source=source,
            sandbox=sandboxes[-1] if sandboxes else None,
            load=loads[-1],
            quantize=_comparable(quantized, batches),
            engine=entries("engine")[-1],
            compile=tuple(reading_from_json(entry["reading"]) for entry in entries("compile")),
            loads=len(loads),
            idle_power_w=idle[-1]["power_w"] if idle else None,
            temperature_start_c=idle[-1]["temperature_c"] if idle else None,
            cooldown_s=cooled[-1]["waited_s"] if cooled else None,
            power=tuple(row for entry in entries("power") for row in entry["samples"]),
            concurrent=tuple(
                frozenset(window.get("concurrent", ()))
                for window in (*(entry["reading"] for entry in entries("batch")), *judged)
            ),
            out_of_memory=tuple(entries(OUT_OF_MEMORY)),
        )


def _comparable(
    quantized: Sequence[Mapping[str, Any]], batches: Sequence[BatchEntry]
) -> EnergyReading | None:
    if not quantized or not batches:
        return None
    reading = reading_from_json(quantized[-1]["reading"])
    here = batches[0].reading
    return reading if (reading.source, reading.scope) == (here.source, here.scope) else None


def _order(entry: BatchEntry) -> tuple[int, int]:
    return entry.batch, entry.first


def _reallocated(
    verdicts: Sequence[tuple[Verdict, float | None]], source: EnergySource | None
) -> list[tuple[Verdict, float | None]]:
    """Measured energy of evaluation, all of it shared out by CPU time.

    The journal has it in slices of time, and what a slice took is also that of samples that
    ended in a later one.
    """
    known_j = [energy_j for _, energy_j in verdicts if energy_j is not None]
    cpu_s = sum(verdict.evaluation_cpu_s for verdict, _ in verdicts)
    if source is EnergySource.estimate or not known_j or cpu_s == 0:
        return list(verdicts)
    return [(v, sum(known_j) * (v.evaluation_cpu_s / cpu_s) or None) for v, _ in verdicts]


def log_results(plan: Plan, folder: Path, artifacts: Path, tracked: "TrackedRun") -> None:
    """Write the artifacts of a run that has generated and judged everything, and log them.

    `folder` has its journal; `artifacts` is made anew.
    """
    results = read_results(folder)
    records = task_records(plan, results.batches, results.verdicts)
    truth = known_ground_truth(plan)
    facts = _facts(plan, results, truth)
    metrics = run_metrics(records, facts, rng=np.random.default_rng(0))
    metrics |= _memory(plan, results) | _footprint(plan, metrics.get("energy_total_kwh"))
    metrics |= predicted_metrics(plan, results.batches)
    if plan.experiment.evaluator.challenge and results.verdicts:
        metrics["suspects"] = float(sum(v.suspect for v, _ in results.verdicts.values()))
    tracked.log(
        metrics=metrics,
        tags=_tags(plan, results) | _crosscheck(plan, metrics) | _concurrent(results),
        artifacts=_artifacts(plan, artifacts, results, records, truth),
        dataset=_dataset(plan),
    )


def task_records(
    plan: Plan,
    batches: Sequence[BatchEntry],
    verdicts: Mapping[tuple[str, int], tuple[Verdict, float | None]],
) -> list[TaskRecord]:
    """One record per sample, in the order of the requests.

    `verdicts` maps (task, sample) to a verdict and its evaluation energy [J] (None: not
    measured); it is empty where the evaluator was off.
    """
    domains = {task.task_id: task.domains for task in plan.suite.tasks}
    records: list[TaskRecord] = []
    for window, entry in enumerate(sorted(batches, key=_order)):
        reading = entry.reading
        shares = _shares(entry)
        batch_energy_j = None if math.isnan(reading.energy_j) else reading.energy_j
        for completion, energy_j in zip(entry.completions, shares, strict=True):
            verdict, evaluation_j = verdicts.get(
                (completion.task_id, completion.sample), (None, None)
            )
            base = None if verdict is None else verdict.of_base_tests()
            records.append(
                TaskRecord(
                    task_id=completion.task_id,
                    sample=completion.sample,
                    order=len(records),
                    batch=window,
                    batch_size=len(entry.completions),
                    prompt_tokens=completion.prompt_tokens,
                    output_tokens=completion.output_tokens,
                    finish_reason=completion.finish_reason.value,
                    energy_j=energy_j,
                    energy_net_j=_net_share(energy_j, reading),
                    batch_energy_j=batch_energy_j,
                    latency_s=reading.latency_s,
                    ttft_s=(
                        reading.marks_s.get(FIRST_TOKEN)
                        if completion.pace is None
                        else completion.pace.ttft_s
                    ),
                    verdict=_outcome(base),
                    verdict_reason=None if base is None else base.reason,
                    evaluation_s=None if verdict is None else verdict.evaluation_s,
                    evaluation_cpu_s=None if verdict is None else verdict.evaluation_cpu_s,
                    evaluation_energy_j=evaluation_j,
                    domains=domains[completion.task_id],
                    verdict_plus=(
                        None if verdict is None or verdict.base is None else _outcome(verdict)
                    ),
                )
            )
    return records


def _outcome(verdict: Verdict | None) -> str | None:
    """What the tests said: nothing where there were none, or they could not be run."""
    if verdict is None or verdict.status is Status.unjudged:
        return None
    return str(verdict.status.value)


def _shares(entry: BatchEntry) -> tuple[float, ...] | tuple[None, ...]:
    """Each sequence's share; None for a window too short for its counter to tick."""
    if math.isnan(entry.reading.energy_j):
        return (None,) * len(entry.completions)
    reading = entry.reading
    prefill_j = prefill_part(reading.energy_at_marks_j, reading.marks_s)
    return attribute_energy(
        BatchEnergy(energy_j=reading.energy_j, prefill_j=prefill_j),
        prompt_tokens=[completion.prompt_tokens for completion in entry.completions],
        output_tokens=[completion.output_tokens for completion in entry.completions],
        spans=[
            (pace.begin if prefill_j is None else pace.first, pace.end) for pace in _paces(entry)
        ]
        or None,
    )


def _paces(entry: BatchEntry) -> tuple[Pace, ...]:
    """When each of the sequences was decoded; empty where they began together."""
    return tuple(c.pace for c in entry.completions if c.pace is not None)


def _net_share(share_j: float | None, reading: EnergyReading) -> float | None:
    """Net energy in the proportion of gross: idle power is nobody's in particular."""
    if share_j is None or reading.energy_net_j is None or reading.energy_j == 0:
        return None
    return share_j * reading.energy_net_j / reading.energy_j


def _facts(plan: Plan, results: Results, truth: "GroundTruth | None") -> RunFacts:
    peaks = [b.memory_peak_bytes for b in results.batches]
    known = [peak for peak in peaks if peak is not None]
    energies_j = [j for _, j in results.verdicts.values() if j is not None]
    loading = results.load["reading"]  # None where a server has the model
    return RunFacts(
        windows=tuple(
            WindowFacts(
                reading=entry.reading,
                output_tokens=tuple(c.output_tokens for c in entry.completions),
                paces=_paces(entry),
                prompt_tokens=sum(c.prompt_tokens for c in entry.completions),
                positions=entry.positions,
            )
            for entry in results.batches
        ),
        load=None if loading is None else reading_from_json(loading),
        quantize=results.quantize,
        compile=results.compile,
        idle_power_w=results.idle_power_w,
        evaluation_energy_j=sum(energies_j) if energies_j else None,
        evaluation_source=results.evaluation_source if energies_j else None,
        temperature_start_c=results.temperature_start_c,
        cooldown_s=results.cooldown_s,
        memory_peak_bytes=max(known) if known else None,
        valid_tasks=None if truth is None else truth.valid,
    )


def _memory(plan: Plan, results: Results) -> dict[str, float]:
    """What was predicted, and the energy of attempts that ran out of memory [J]."""
    found = {}
    if plan.memory is not None:
        found["predicted_memory_bytes"] = float(sum(plan.memory.by_device_bytes))
    readings = [e["reading"] for e in results.out_of_memory if e["reading"] is not None]
    lost_j = [reading_from_json(reading).energy_j for reading in readings]
    if lost_j and not any(map(math.isnan, lost_j)):
        found["energy_out_of_memory_j"] = sum(lost_j)
    return found


def _footprint(plan: Plan, energy_total_kwh: float | None) -> dict[str, float]:
    """Greenhouse gases [g CO2e] and cost of the run's total energy at the site's overhead."""
    if energy_total_kwh is None:
        return {}
    carbon, cost = plan.experiment.carbon, plan.experiment.cost
    site_kwh = energy_total_kwh * carbon.pue
    footprint = {"carbon_g": site_kwh * carbon.grid_g_per_kwh}
    if cost.per_kwh is not None:
        footprint["energy_cost"] = site_kwh * cost.per_kwh
    return footprint


def _tags(plan: Plan, results: Results) -> dict[str, str]:
    meter, model = results.load["meter"], results.load["model"]
    fixed = plan.experiment.model.weights is Weights.random
    tags = {
        "codejoule.energy_source": meter["source"],
        "codejoule.energy_scope": meter["scope"],
        "codejoule.length": "fixed" if fixed else "free",
        "codejoule.device": model["device"],
        "codejoule.dtype": model["dtype"],
        "codejoule.kernels": ", ".join(model["kernels"]),
        "codejoule.sessions": str(results.loads),
    }
    unresolved = sum(math.isnan(entry.reading.energy_j) for entry in results.batches)
    if unresolved:
        # Windows shorter than a tick of the counter: the run's energy is then not known.
        tags["codejoule.unresolved_windows"] = str(unresolved)
    if plan.server is not None:
        tags["codejoule.proof"] = "none: served"
    if results.out_of_memory:
        tags["codejoule.out_of_memory"] = str(len(results.out_of_memory))
        tags["codejoule.batch_reduced_to"] = str(results.out_of_memory[-1]["reduced_to"])
    if plan.gpus:
        tags["codejoule.gpu"] = plan.gpu_name
    if results.evaluation_source is not None:
        tags["codejoule.energy_source_evaluation"] = results.evaluation_source.value
    if results.sandbox is not None:
        tags["codejoule.sandbox"] = results.sandbox["launcher"]
    return tags


def _crosscheck(plan: Plan, metrics: Mapping[str, float]) -> dict[str, str]:
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


def _dataset(plan: Plan) -> "DatasetFacts":
    from codejoule.tracking import DatasetFacts

    suite = plan.suite
    return DatasetFacts(name=suite.name, source=suite.source, checksum=suite.checksum)


def _artifacts(
    plan: Plan,
    folder: Path,
    results: Results,
    records: Sequence[TaskRecord],
    truth: "GroundTruth | None",
) -> dict[str, Path]:
    """Write every artifact into `folder`; the files by the names they have in the store."""
    from codejoule.measurement import PowerSample
    from codejoule.tracking import power_figure, write_power_parquet, write_tasks_parquet

    shutil.rmtree(folder, ignore_errors=True)
    power = [PowerSample(**sample) for sample in results.power]
    write_tasks_parquet(records, folder / "tasks.parquet")
    write_power_parquet(power, folder / "power.parquet")
    write_benchmark_files(plan, results.batches, results.verdicts, truth, folder)
    config = yaml.safe_dump(to_plain(plan.experiment), sort_keys=False)
    write_whole(folder / "config.yaml", config)
    _write_json(folder / "environment.json", environment(plan.hardware))
    _write_json(folder / "model.json", results.load["model"])
    _write_json(folder / "engine.json", results.engine)
    if results.sandbox is not None:
        _write_json(folder / "sandbox.json", results.sandbox)
    if power:
        power_figure(
            power, folder / "power.svg", source=EnergySource(results.load["meter"]["source"])
        )
    return {file.name: file for file in sorted(folder.iterdir())}


def _write_json(path: Path, payload: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps(payload, indent=2, default=str) + "\n")
