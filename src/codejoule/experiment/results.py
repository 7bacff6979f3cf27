"""From the journal to MLflow: metrics (with the estimator's word on them), tags and artifacts of a
finished run."""

import logging
import math
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from codejoule.common.lazily import Lazily
from codejoule.common.packed import Packed
from codejoule.config.schema import ExperimentConfig, Stage, Weights
from codejoule.domain import EnergySource, TaskRecord, Workload, doubts, validity
from codejoule.domain.metrics import (
    RoundFacts,
    RunFacts,
    WindowFacts,
    round_metrics,
    run_metrics,
)
from codejoule.domain.steady import steady_state, tokens_between
from codejoule.domain.text import number
from codejoule.estimate import (
    ENGINE_SPEEDS,
    POWER,
    GenerationEstimate,
    estimate_generation,
)
from codejoule.evaluation import GroundTruth
from codejoule.experiment.artifacts import write_artifacts
from codejoule.experiment.devices import known_card
from codejoule.experiment.evaluation_stage import Bench, known_ground_truth
from codejoule.experiment.kept_journal import pack_journal
from codejoule.experiment.plan import Plan
from codejoule.experiment.records import (
    Judgement,
    Results,
    read_results,
    records_of,
    task_records,
)
from codejoule.experiment.rounds import asked_in, each_round
from codejoule.experiment.shares import Numbered, opens, paces, paces_of, sessions
from codejoule.experiment.task_views import TABLE_TAGS, task_traces
from codejoule.experiment.training_data import seen_in_training
from codejoule.tracking import GENERATED, JUDGED, STAGE, Journal, TrackedRun
from codejoule.tracking.entries import Batch

_HEADLINE = (
    "energy_per_solved_task_j", "pass_at_1", "energy_per_task_j", "energy_per_output_token_mj",
    "energy_generation_j", "energy_gpu_j", "throughput_tokens_per_s", "latency_s", "tasks",
)  # fmt: skip
logger = logging.getLogger(__name__)

_SAME_MOMENT_S = 0.05
"""A window is cut a little after the sequence with which a steady state ends was seen to end."""


def log_results(
    plan: Plan, folder: Path, artifacts: Path, tracked: TrackedRun
) -> tuple[Mapping[str, float], EnergySource]:
    """Write the artifacts of a run that has generated and judged everything, and log them. `folder`
    has its journal; `artifacts` is made anew. Its metrics, and where its energy comes from."""
    results, truth = read_results(folder), known_ground_truth(Bench.of(plan, name=""))
    with Journal(folder) as journal:
        asked = asked_in(plan, journal)
        too_long = sum(len(each.too_long) for each in each_round(plan, journal))
    attempts = task_records(plan, results)
    records = records_of(results, attempts)
    metrics = metrics_of(plan, results, records, truth, attempts)
    tags = tags_of(plan, results) | crosscheck(plan, metrics)
    tags |= {"codejoule.not_repaired": str(too_long)} if too_long else {}
    tags |= concurrent_tags(results.concurrent)
    tags |= TABLE_TAGS | validity_tag(results, tags)
    tags |= stage_tags(plan.experiment, records, results.judged)
    tags |= adapter_tags(plan)
    traces = task_traces(plan, results, attempts, asked)
    if len(traces) < len(attempts):
        tags["codejoule.traces"] = f"{len(traces)} of {len(attempts)}, evenly spread"
    tracked.log(
        metrics=metrics,
        tags=tags,
        artifacts=[
            *write_artifacts(plan, artifacts, results, records, truth, attempts, asked),
            pack_journal(folder, artifacts),
        ],
        dataset=plan.suite,
    )
    tracked.log_traces(traces, model=plan.experiment.model.name)
    return metrics, results.load.meter.source


def headline(metrics: Mapping[str, float], source: EnergySource) -> tuple[str, ...]:
    """The figures that answer first, in words; one that was not measured is absent. Per task where
    no sample was judged."""
    about, label = "~" if source is EnergySource.estimate else "", source.label
    solved = metrics.get("energy_per_solved_task_j")
    per_task = metrics.get("energy_per_task_j") if solved is None else None
    figures = {
        f"{about}{{}} J per solved task{label}": solved,
        f"{about}{{}} J per task{label}": per_task,
        "pass@1 {}": metrics.get("pass_at_1"),
        "{} tokens/s": metrics.get("throughput_tokens_per_s"),
    }
    return tuple(
        text.format(number(value))
        for text, value in figures.items()
        if value is not None and math.isfinite(value)
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
    if load.meter.source in (EnergySource.nvml, EnergySource.rapl):
        tags["codejoule.energy_devices"] = ", ".join(load.meter.devices)
    if plan.checkpoint.stored_as is not None:
        tags["codejoule.stored_as"] = plan.checkpoint.stored_as
    if load.taken_over:
        tags["codejoule.engine"] = "shared: loaded by an earlier job"
    if results.unresolved:
        tags["codejoule.unresolved_windows"] = str(results.unresolved)
    if plan.experiment.engine.facts.runs_already:
        tags["codejoule.proof"] = load.proof
    if results.out_of_memory:
        tags["codejoule.out_of_memory"] = str(len(results.out_of_memory))
        tags["codejoule.batch_reduced_to"] = str(results.out_of_memory[-1].reduced_to)
    if plan.gpus:
        tags["codejoule.gpu"] = plan.gpu_name
    if results.cards:
        tags["codejoule.gpu_uuid"] = ", ".join(results.cards)
    if results.idle is not None and results.idle.source is not None:
        tags["codejoule.idle_power"] = results.idle.source.value
    return tags | judging_tags(results.judged)


def adapter_tags(plan: Plan) -> dict[str, str]:
    """What tunes the model, and whether it has learnt the tasks; nothing without an adapter."""
    adapter = plan.checkpoint.adapter
    if adapter is None:
        return {}
    learnt = seen_in_training(adapter.trained, plan.suite.tasks)
    if not learnt.startswith("none"):
        logger.warning("model.adapter=%s: %s", plan.experiment.model.adapter, learnt)
    return {
        "codejoule.adapter": adapter.checksum,
        "codejoule.adapter_merged": str(adapter.merged).lower(),
        "codejoule.tasks_in_training": learnt,
    } | ({} if adapter.base is None else {"codejoule.base": adapter.base})


def judging_tags(judged: Judgement) -> dict[str, str]:
    """Where and how samples were judged; nothing where none were."""
    tags = {}
    if judged.hosts:
        tags["codejoule.host_evaluation"] = ", ".join(judged.hosts)
        tags["codejoule.cpu_evaluation"] = ", ".join(
            dict.fromkeys(filter(None, judged.hosts.values()))
        )
    if judged.source is not None:
        tags["codejoule.energy_source_evaluation"] = judged.source.value
    elif judged.sources:
        own = ", ".join(f"{source.value} on {host}" for host, source in judged.sources.items())
        tags["codejoule.energy_evaluation_absent"] = f"obtained in different ways: {own}"
    if judged.sandbox is not None:
        tags["codejoule.sandbox"] = judged.sandbox.launcher
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


def concurrent_tags(windows: Collection[frozenset[str]]) -> dict[str, str]:
    """The other jobs that were at work during metered windows; nothing where there were none."""
    jobs = sorted(frozenset().union(*windows))
    if not jobs:
        return {}
    logger.warning(
        "other jobs of codejoule worked while this one was measured, which changes its energy: %s. "
        "The analysis compares it with no run that was alone; on_finished=rerun measures it again",
        "; ".join(jobs),
    )
    most = max(map(len, windows))
    return {"codejoule.concurrent": str(most), "codejoule.concurrent_jobs": "; ".join(jobs)}


def stage_tags(
    experiment: ExperimentConfig, records: Sequence[TaskRecord], judged: Judgement
) -> dict[str, str]:
    """How far the run has gone; nothing where its samples are not to be judged."""
    if all((record.task_id, record.sample) in judged.verdicts for record in records):
        return {STAGE: JUDGED}
    # Some may have been judged all the same: by a run of all stages that was broken off.
    return {STAGE: GENERATED} if experiment.stage is Stage.generate else {}


def validity_tag(results: Results, tags: Mapping[str, str]) -> dict[str, str]:
    """Whether its energy is what its configuration takes, for programs; by its windows and the
    other `tags`."""
    found = doubts(
        (entry.reading for entry in results.batches),
        crosscheck_differs=tags.get("codejoule.energy_crosscheck") == "differs",
        concurrent="codejoule.concurrent" in tags,
        reduced_batch="codejoule.batch_reduced_to" in tags,
    )
    return {"codejoule.validity": validity(found)}


def metrics_of(
    plan: Plan,
    results: Results,
    records: Sequence[TaskRecord],
    truth: GroundTruth | None,
    attempts: Sequence[TaskRecord],
) -> dict[str, float]:
    """Every metric of a run that has generated and judged everything, those that answer first:
    MLflow shows them in the order in which they were logged. `attempts` are those of all rounds."""
    facts = run_facts(results, truth)
    metrics = run_metrics(records, facts, attempts=attempts, rng=np.random.default_rng(0))
    if plan.experiment.generation.rounds > 1:
        metrics |= round_metrics(
            _round_facts(results, attempts), rounds_asked=plan.experiment.generation.rounds
        )
    metrics |= memory_metrics(plan, results)
    metrics |= footprint(plan.experiment, metrics.get("energy_total_kwh"))
    metrics |= predicted_metrics(plan, results.batches)
    if "energy_per_output_token_j" in metrics:
        metrics["energy_per_output_token_mj"] = 1000 * metrics["energy_per_output_token_j"]
    first = {name: metrics[name] for name in _HEADLINE if name in metrics}
    return first | metrics


def run_facts(results: Results, truth: GroundTruth | None) -> RunFacts:
    """What was measured, as the formulas take it."""
    energy_j, idle = results.judged.verdicts.energy_j, results.idle
    steady = {
        number: tokens
        for session in sessions(results.batches)
        for number, tokens in _steady_tokens(session).items()
    }

    def window(number: int) -> WindowFacts:
        entry = results.batches[number]
        return WindowFacts(
            reading=results.shares.kept(number, entry.reading),
            output_tokens=tuple(c.output_tokens for c in entry.completions),
            paces=paces(entry),
            prompt_tokens=sum(c.prompt_tokens for c in entry.completions),
            positions=entry.positions,
            opens=opens(entry),
            steady_tokens=steady.get(number),
        )

    return RunFacts(
        windows=Lazily(len(results.batches), window),
        load=results.load.reading,
        quantize=results.quantize,
        compile=results.compile,
        idle_power_w=idle.power_w if idle else None,
        evaluation_energy_j=energy_j,
        evaluation_source=None if energy_j is None else results.judged.source,
        temperature_start_c=idle.temperature_c if idle else None,
        cooldown_s=results.cooldown.waited_s if results.cooldown else None,
        memory_peak_bytes=results.memory_peak_bytes,
        valid_tasks=None if truth is None else truth.valid,
    )


def _round_facts(results: Results, attempts: Sequence[TaskRecord]) -> list[RoundFacts]:
    return [
        RoundFacts(
            attempts=attempts[each.answers.start : each.answers.stop],
            energy_generation_j=sum(
                results.shares.kept(number, results.batches[number].reading).energy_j
                for number in each.windows
            ),
            energy_evaluation_j=each.shown.verdicts.energy_j,
        )
        for each in results.rounds
    ]


def _steady_tokens(session: Sequence[Numbered]) -> dict[int, float]:
    """What was generated in each window that lies within the session's steady state."""
    last = session[-1][1].slice
    if last is None or last.running:
        return {}
    edges = [
        (number, entry.slice.begin_s, entry.slice.end_s) for number, entry in session if entry.slice
    ]
    at_once = max(entry.slice.at_once for _, entry in session if entry.slice)
    every = paces_of(session)
    found = steady_state(every, slots=at_once)
    if found is None:
        return {}
    tokens = array("q", (c.output_tokens for _, entry in session for c in entry.completions))
    parts = {
        number: (begin_s, end_s)
        for number, begin_s, end_s in edges
        if found[0] <= begin_s and end_s <= found[1] + _SAME_MOMENT_S
    }
    return dict(zip(parts, tokens_between(every, tokens, list(parts.values())), strict=True))


def memory_metrics(plan: Plan, results: Results) -> dict[str, float]:
    """What was predicted, and the energy of attempts that ran out of memory and of sequences that
    were broken off [J]."""
    found = {}
    if plan.memory is not None:
        found["predicted_memory_bytes"] = float(sum(plan.memory.by_device_bytes))
    lost_j = [e.reading.energy_j for e in results.out_of_memory if e.reading is not None]
    if lost_j and not any(map(math.isnan, lost_j)):
        found["energy_out_of_memory_j"] = sum(lost_j)
    broken_j = float(results.shares.lost_j.sum())
    if broken_j > 0:
        found["energy_broken_off_j"] = broken_j
    return found


def footprint(experiment: ExperimentConfig, energy_total_kwh: float | None) -> dict[str, float]:
    """Greenhouse gases [g CO2e] and cost of the run's total energy at the site's overhead."""
    if energy_total_kwh is None:
        return {}
    carbon, cost = experiment.carbon, experiment.cost
    site_kwh = energy_total_kwh * carbon.pue
    footprint = {"carbon_g": site_kwh * carbon.grid_g_per_kwh}
    if cost.per_kwh is not None:
        footprint["energy_cost"] = site_kwh * cost.per_kwh
    return footprint


def predicted_metrics(plan: Plan, batches: Sequence[Batch]) -> dict[str, float]:
    """``predicted_*`` for the batches that ran, from their real numbers of tokens. Empty for
    requests that arrived at a rate, on a CPU, on several GPUs, on a card that is not on file or
    whose peak rate is not known, with an engine or a family of models that the estimator does not
    know; without energy where the card's power limit is not known."""
    card = known_card(plan.gpu_name) if len(plan.gpus) == 1 else None
    speed = ENGINE_SPEEDS.get(plan.experiment.engine.name.value)
    batch = plan.experiment.batch
    if card is None or speed is None or plan.memory is None or batch.arrival_rate_per_s is not None:
        return {}
    work = plan.memory.workload
    if plan.experiment.engine.facts.refills:
        fixed = plan.experiment.model.weights is Weights.random
        one, times = _in_slots(replace(work, refilled=not fixed), batches, batch.size)
        works: Iterable[Workload] = (one,)
    else:
        works, times = (_padded(work, entry) for entry in batches), 1.0
    estimates = (estimate_generation(w, card=card, engine=speed, power=POWER) for w in works)
    # Whether there is one depends on the card alone.
    every = Packed(GenerationEstimate, (each for each in estimates if each is not None))
    if not len(every):
        return {}
    tokens = sum(c.output_tokens for entry in batches for c in entry.completions)
    latency_s = times * sum(estimate.latency_s for estimate in every)
    metrics = {
        "predicted_latency_s": latency_s,
        "predicted_ttft_s": sum(estimate.ttft_s for estimate in every) / len(every),
        "predicted_throughput_tokens_per_s": tokens / latency_s,
    }
    if times > 1:  # most sequences wait for a slot first
        del metrics["predicted_ttft_s"]
    steps_s = [estimate.tpot_s for estimate in every if estimate.tpot_s is not None]
    if steps_s:
        metrics["predicted_tpot_s"] = sum(steps_s) / len(steps_s)
    energies_j = [estimate.energy_j for estimate in every if estimate.energy_j is not None]
    if len(energies_j) == len(every):
        metrics["predicted_energy_gpu_j"] = times * sum(energies_j)
        metrics["predicted_mean_power_w"] = times * sum(energies_j) / latency_s
    return metrics


def _padded(work: Workload, entry: Batch) -> Workload:
    """One batch: padded to its longest prompt, as long as its longest completion."""
    return replace(
        work,
        batch=len(entry.completions),
        prompt_tokens=max(c.prompt_tokens for c in entry.completions),
        new_tokens=max(1, *(c.output_tokens for c in entry.completions)),
    )


def _in_slots(work: Workload, batches: Sequence[Batch], size: int) -> tuple[Workload, float]:
    """A run in whose `size` slots waiting prompts take the place of what has ended: a full batch of
    mean sequences, and how many of these the run has. Where none waits, one padded batch."""
    prompts, new = array("q"), array("q")
    for entry in batches:
        prompts.extend(c.prompt_tokens for c in entry.completions)
        new.extend(c.output_tokens for c in entry.completions)
    count = len(new)
    waits = count > size
    prompt_tokens = sum(prompts) / count if waits else max(prompts)
    new_tokens = sum(new) / count if waits else max(new)
    full = replace(
        work,
        batch=min(size, count),
        prompt_tokens=max(1, round(prompt_tokens)),
        new_tokens=max(1, round(new_tokens)),
        refilled=work.refilled and waits,
    )
    return full, count / full.batch
