"""What a finished journal says, and the row of each sample."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from codejoule.common.packed import Packed
from codejoule.domain import (
    FIRST_TOKEN,
    Cooling,
    EnergyReading,
    EnergySource,
    JudgedSample,
    PowerSample,
    Status,
    TaskRecord,
    Verdict,
)
from codejoule.experiment.plan import Plan
from codejoule.experiment.shares import (
    Answer,
    Shares,
    block_tasks,
    by_number,
    in_order,
    shares_of,
)
from codejoule.experiment.verdicts import Verdicts
from codejoule.tracking import Journal
from codejoule.tracking.entries import (
    Batch,
    Compiled,
    CooledDown,
    EngineSetUp,
    Idle,
    Judged,
    Loaded,
    OutOfMemory,
    Power,
    Quantized,
    SandboxSetUp,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a journal says of its samples' verdicts."""

    verdicts: Verdicts
    """Of each sample that has one."""
    source: EnergySource | None
    """How evaluation energy was obtained; None where nothing was judged, or where machines
    obtained it in different ways: it is then not known."""
    sources: Mapping[str, EnergySource]
    """The same of each machine."""
    sandbox: SandboxSetUp | None
    """What isolated the samples when they were judged last."""
    hosts: Mapping[str, str]
    """The machines that judged, with their processors."""
    concurrent: frozenset[frozenset[str]]
    """Other jobs of codejoule that were at work together during a metered window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a finished journal says."""

    batches: Sequence[Batch]
    """The windows in their order, each read when it is asked for."""
    answers: Sequence[Answer]
    """Of each request, in the order of the requests."""
    shares: Shares
    """Whose energy was whose."""
    unresolved: int
    """Windows whose energy is not known: they were shorter than a tick of the counter."""
    memory_peak_bytes: int | None
    """Largest memory in the process that generated [bytes]; None where not known."""
    judged: Judgement
    """Their verdicts; none without an evaluator."""
    load: Loaded
    """The last load of the model."""
    loads: int
    """How often the model was loaded: more than once means that the run was continued."""
    cards: tuple[str, ...]
    """UUIDs of the GPUs whose counters gave its energy, those of all sessions."""
    quantize: EnergyReading | None
    """Quantizing the weights, by this run or by the earlier one whose checkpoint it found; None
    where no run here did, or where that one's energy came from another source."""
    engine: EngineSetUp
    """How the engine decoded when it was set up last."""
    compile: tuple[EnergyReading, ...]
    """Every time that the engine compiled and captured what it runs."""
    idle: Idle | None
    """The GPUs at rest."""
    cooldown: Cooling | None
    """None where the run does not wait for the GPUs to cool down."""
    power: Packed[PowerSample]
    """Power samples of all sessions."""
    concurrent: frozenset[frozenset[str]]
    """Other jobs of codejoule that were at work together during a metered window of generation or
    evaluation."""
    out_of_memory: tuple[OutOfMemory, ...]
    """Attempts that ran out of memory, and what the batch was then reduced to."""


def read_judgement(journal: Journal) -> Judgement:
    """The verdicts in `journal`."""
    verdicts = Verdicts(journal.entries(Judged))
    return Judgement(
        verdicts=verdicts,
        source=verdicts.source,
        sources=verdicts.sources,
        sandbox=next(reversed(journal.entries(SandboxSetUp)), None),
        hosts=verdicts.hosts,
        concurrent=frozenset(verdicts.concurrent),
    )


def read_results(folder: Path) -> Results:
    """The journal in `folder`, as a whole: what is held of a sample are numbers, and its text is
    read from there, as long as it lies there."""
    with Journal(folder) as journal:
        entries = journal.entries
        batches = by_number(entries(Batch))
        unresolved, peak_bytes, concurrent = 0, None, set()
        for entry in batches:
            unresolved += math.isnan(entry.reading.energy_j)
            concurrent.add(frozenset(entry.reading.concurrent))
            if entry.memory_peak_bytes is not None:
                peak_bytes = max(entry.memory_peak_bytes, peak_bytes or 0)
        judged, loads = read_judgement(journal), entries(Loaded)
        return Results(
            batches=batches,
            answers=in_order(batches),
            shares=shares_of(batches),
            unresolved=unresolved,
            memory_peak_bytes=peak_bytes,
            judged=judged,
            load=loads[-1],
            loads=len(loads),
            cards=tuple(dict.fromkeys(uuid for load in loads for uuid in load.meter.uuids)),
            quantize=_comparable(entries(Quantized), batches),
            engine=entries(EngineSetUp)[-1],
            compile=tuple(entry.reading for entry in entries(Compiled)),
            idle=next(reversed(entries(Idle)), None),
            cooldown=next(reversed(entries(CooledDown)), None),
            power=Packed(PowerSample, (one for entry in entries(Power) for one in entry.samples)),
            concurrent=judged.concurrent | concurrent,
            out_of_memory=tuple(entries(OutOfMemory)),
        )


def _comparable(quantized: Sequence[Quantized], batches: Sequence[Batch]) -> EnergyReading | None:
    if not quantized or not batches:
        return None
    reading, here = quantized[-1].reading, batches[0].reading
    return reading if (reading.source, reading.scope) == (here.source, here.scope) else None


def task_records(plan: Plan, results: Results) -> Packed[TaskRecord]:
    """One record per sample, in the order of the requests."""
    domains = {task.task_id: task.domains for task in plan.suite.tasks}
    size, shares = block_tasks(plan, results.batches), results.shares

    def record(order: int, answer: Answer) -> TaskRecord:
        completion, pace = answer.completion, answer.completion.pace
        kept = shares.kept(answer.window, answer.batch.reading)
        return TaskRecord(
            task_id=completion.task_id,
            sample=completion.sample,
            order=order,
            batch=answer.window,
            batch_size=len(answer.batch.completions),
            prompt_tokens=completion.prompt_tokens,
            output_tokens=completion.output_tokens,
            finish_reason=completion.finish_reason.value,
            energy_j=float(shares.gross_j[answer.place]),
            energy_net_j=float(shares.net_j[answer.place]),
            batch_energy_j=kept.energy_j,
            latency_s=kept.latency_s,
            ttft_s=pace.ttft_s if pace else kept.marks_s.get(FIRST_TOKEN),
            verdict=None,
            verdict_reason=None,
            evaluation_s=None,
            evaluation_cpu_s=None,
            evaluation_energy_j=None,
            domains=domains[completion.task_id],
            block=None if size is None else order // size,
            thinking_tokens=completion.thinking_tokens,
        )

    # Packing makes None of an energy that is NaN.
    records = (record(order, answer) for order, answer in enumerate(results.answers))
    return with_verdicts(records, results.judged.verdicts)


def with_verdicts(records: Iterable[TaskRecord], verdicts: Verdicts) -> Packed[TaskRecord]:
    """The records with what `verdicts` says of their samples; those without one as they are."""
    return Packed(
        TaskRecord,
        (
            record
            if (verdict := verdicts.get((record.task_id, record.sample))) is None
            else _judged(record, verdict)
            for record in records
        ),
    )


def _judged(record: TaskRecord, verdict: JudgedSample) -> TaskRecord:
    base = verdict.of_base_tests()
    return replace(
        record,
        verdict=_outcome(base),
        verdict_reason=base.reason,
        evaluation_s=verdict.evaluation_s,
        evaluation_cpu_s=verdict.evaluation_cpu_s,
        evaluation_energy_j=verdict.energy_j,
        verdict_plus=_outcome(verdict) if verdict.base else None,
    )


def _outcome(verdict: Verdict) -> str | None:
    """What the tests said: nothing where there were none, or they could not be run."""
    if verdict.status is Status.unjudged:
        return None
    return str(verdict.status.value)
