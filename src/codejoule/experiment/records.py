"""What a finished journal says, and the row of each sample."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

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
from codejoule.experiment.shares import block_tasks, in_order, sessions, shares_of
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
    ShownJudged,
)

_Number = TypeVar("_Number", int, float)

Verdicts = Mapping[tuple[str, int], JudgedSample]
"""Of each sample, by task and number; empty without an evaluator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a journal says of its samples' verdicts."""

    verdicts: Verdicts
    """Measured energy of evaluation is shared out among all of a machine by CPU time."""
    source: EnergySource | None
    """How evaluation energy was obtained; None where nothing was judged, or where machines
    obtained it in different ways: it is then not known."""
    sources: Mapping[str, EnergySource]
    """The same of each machine."""
    sandbox: SandboxSetUp | None
    """What isolated the samples when they were judged last."""
    hosts: Mapping[str, str]
    """The machines that judged, with their processors."""
    concurrent: tuple[frozenset[str], ...]
    """Other jobs of codejoule at work during each metered window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResults:
    """What a finished journal says of one repair round."""

    batches: tuple[Batch, ...]
    """Its windows. Their numbers, and the places of sequences, go on where the round before has
    ended."""
    judged: Judgement
    """The verdicts on its programs."""
    shown: Judgement
    """What the shown tests said of them; nothing in the last round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a finished journal says."""

    rounds: tuple[RoundResults, ...]
    """Its rounds; one where nothing was repaired."""
    judged: Judgement
    """The verdicts on all samples, none without an evaluator: on the last program of each, with
    the time and energy of judging earlier ones by the shown tests."""
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
    power: tuple[PowerSample, ...]
    """Power samples of all sessions."""
    concurrent: tuple[frozenset[str], ...]
    """Other jobs of codejoule at work during each metered window of generation and evaluation."""
    out_of_memory: tuple[OutOfMemory, ...]
    """Attempts that ran out of memory, and what the batch was then reduced to."""

    @property
    def batches(self) -> tuple[Batch, ...]:
        """The windows of all rounds, in the order of the requests."""
        return tuple(batch for each in self.rounds for batch in each.batches)


def read_judgement(journal: Journal, kind: type[Judged] = Judged) -> Judgement:
    """The verdicts in `journal`, of one kind."""
    judged = journal.entries(kind)
    sources = {entry.host or "": entry.source for entry in judged}
    one = len({entry.source for entry in judged}) == 1
    verdicts = []
    for host in sources:
        own = [entry for entry in judged if (entry.host or "") == host]
        verdicts += _shared_out([v for entry in own for v in entry.verdicts], own[0].source)
    if not one:
        verdicts = [replace(verdict, energy_j=None) for verdict in verdicts]
    # A sample that could first not be judged is there twice.
    verdicts.sort(key=lambda verdict: verdict.status is not Status.unjudged)
    return Judgement(
        verdicts={(verdict.task_id, verdict.sample): verdict for verdict in verdicts},
        source=judged[0].source if one else None,
        sources=sources,
        sandbox=next(reversed(journal.entries(SandboxSetUp)), None),
        hosts={entry.host: entry.cpu or "" for entry in judged if entry.host is not None},
        concurrent=tuple(frozenset(entry.concurrent) for entry in judged),
    )


def read_results(folder: Path) -> Results:
    """The journal in `folder`, as a whole."""
    with Journal(folder) as journal:
        entries = journal.entries
        rounds = _rounds(journal)
        batches = rounds[0].batches
        judged, loads = _as_a_whole(rounds), entries(Loaded)
        concurrent = [frozenset(b.reading.concurrent) for each in rounds for b in each.batches]
        return Results(
            rounds=rounds,
            judged=judged,
            load=loads[-1],
            loads=len(loads),
            cards=tuple(dict.fromkeys(uuid for load in loads for uuid in load.meter.uuids)),
            quantize=_comparable(entries(Quantized), batches),
            engine=entries(EngineSetUp)[-1],
            compile=tuple(entry.reading for entry in entries(Compiled)),
            idle=next(reversed(entries(Idle)), None),
            cooldown=next(reversed(entries(CooledDown)), None),
            power=tuple(sample for entry in entries(Power) for sample in entry.samples),
            concurrent=(*concurrent, *judged.concurrent),
            out_of_memory=tuple(entries(OutOfMemory)),
        )


def _rounds(journal: Journal) -> tuple[RoundResults, ...]:
    found: list[RoundResults] = []
    number = windows = sequences = 0
    while not found or journal.of_round(number + 1).count(Batch):
        number += 1
        part = journal.of_round(number)
        batches = tuple(
            _moved(entry, windows, sequences) for entry in sorted(part.entries(Batch), key=_order)
        )
        found.append(
            RoundResults(
                batches=batches,
                judged=read_judgement(part),
                shown=read_judgement(part, ShownJudged),
            )
        )
        windows = max((entry.batch + 1 for entry in batches), default=0)
        sequences += sum(len(entry.completions) for entry in batches)
    return tuple(found)


def _moved(entry: Batch, windows: int, sequences: int) -> Batch:
    """`entry` behind the windows and sequences of earlier rounds."""
    if windows == 0:
        return entry
    facts = entry.slice
    if facts is not None:
        facts = replace(facts, places=tuple(place + sequences for place in facts.places))
    return replace(entry, batch=entry.batch + windows, slice=facts)


def _as_a_whole(rounds: Sequence[RoundResults]) -> Judgement:
    """The verdicts that count, and all that was spent on each sample's programs but for verdicts
    on such as were repaired: those only tell what each round has gained."""
    (first, *others), shown = [r.judged for r in rounds], [r.shown for r in rounds]
    if not others and not shown[0].verdicts:
        return first
    verdicts = {key: v for each in (first, *others) for key, v in each.verdicts.items()}
    for each in shown:
        for key, spent in each.verdicts.items():
            if key in verdicts:
                verdicts[key] = _with_cost_of(verdicts[key], spent)
    every = [each for each in (first, *others, *shown) if each.sources]
    sources = {each.source for each in every}
    source = sources.pop() if len(sources) == 1 else None
    if source is None:
        verdicts = {key: replace(v, energy_j=None) for key, v in verdicts.items()}
    return Judgement(
        verdicts=verdicts,
        source=source,
        sources={host: s for each in every for host, s in each.sources.items()},
        sandbox=first.sandbox,
        hosts={host: cpu for each in every for host, cpu in each.hosts.items()},
        concurrent=tuple(window for each in every for window in each.concurrent),
    )


def _with_cost_of(verdict: JudgedSample, other: JudgedSample) -> JudgedSample:
    known_j = [v.energy_j for v in (verdict, other) if v.energy_j is not None]
    return replace(
        verdict,
        evaluation_s=verdict.evaluation_s + other.evaluation_s,
        evaluation_cpu_s=verdict.evaluation_cpu_s + other.evaluation_cpu_s,
        energy_j=sum(known_j) if known_j else None,
    )


def _order(entry: Batch) -> tuple[int, int]:
    return entry.batch, entry.first


def _comparable(quantized: Sequence[Quantized], batches: Sequence[Batch]) -> EnergyReading | None:
    if not quantized or not batches:
        return None
    reading, here = quantized[-1].reading, batches[0].reading
    return reading if (reading.source, reading.scope) == (here.source, here.scope) else None


def _shared_out(
    verdicts: Sequence[JudgedSample], source: EnergySource | None
) -> list[JudgedSample]:
    """Measured energy of evaluation, all of it shared out by CPU time. The journal has it in slices
    of time, and what a slice took is also that of samples that ended in a later one."""
    known_j = [verdict.energy_j for verdict in verdicts if verdict.energy_j is not None]
    cpu_s = sum(verdict.evaluation_cpu_s for verdict in verdicts)
    if source is EnergySource.estimate or not known_j or cpu_s == 0:
        return list(verdicts)
    total_j = sum(known_j)
    return [replace(v, energy_j=total_j * (v.evaluation_cpu_s / cpu_s) or None) for v in verdicts]


def task_records(plan: Plan, batches: Sequence[Batch], verdicts: Verdicts) -> list[TaskRecord]:
    """One record per sample, in the order of the requests."""
    domains = {task.task_id: task.domains for task in plan.suite.tasks}
    shares = [shares_of(entries) for entries in sessions(batches)]
    energies_j = {key: energy for each in shares for key, energy in each.by_sample_j.items()}
    readings = {window: reading for each in shares for window, reading in each.kept.items()}
    size = block_tasks(plan, batches)
    records: list[TaskRecord] = []
    for window, entry, completion in in_order(batches):
        kept = readings[window]
        energy_j, net_j = energies_j[completion.task_id, completion.sample]
        pace = completion.pace
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
                energy_net_j=net_j,
                batch_energy_j=None if math.isnan(kept.energy_j) else kept.energy_j,
                latency_s=kept.latency_s,
                ttft_s=pace.ttft_s if pace else kept.marks_s.get(FIRST_TOKEN),
                verdict=None,
                verdict_reason=None,
                evaluation_s=None,
                evaluation_cpu_s=None,
                evaluation_energy_j=None,
                domains=domains[completion.task_id],
                block=None if size is None else len(records) // size,
                thinking_tokens=completion.thinking_tokens,
            )
        )
    return with_verdicts(records, verdicts)


def attempts_of(plan: Plan, results: Results) -> list[list[TaskRecord]]:
    """Of each round a record per program that was written in it, with its verdict and what reaching
    that took. Orders and windows are counted through."""
    rounds: list[list[TaskRecord]] = []
    windows = orders = 0
    for number, each in enumerate(results.rounds, start=1):
        records = task_records(plan, each.batches, each.judged.verdicts)
        several = plan.experiment.generation.rounds > 1
        rounds.append(
            [
                replace(
                    record,
                    batch=record.batch + windows,
                    order=record.order + orders,
                    round=number if several else None,
                )
                for record in records
            ]
        )
        windows += len(each.batches)
        orders += len(records)
    return rounds


def records_of(rounds: Sequence[Sequence[TaskRecord]], verdicts: Verdicts) -> list[TaskRecord]:
    """One record per sample, from those of its attempts in all rounds: what its tokens, time and
    energy sum up to, and the last verdict. Its order and window are those of the first round."""
    (first, *others) = rounds
    later: dict[tuple[str, int], list[TaskRecord]] = {}
    for record in (record for each in others for record in each):
        later.setdefault((record.task_id, record.sample), []).append(record)
    whole = [_summed(record, later.get((record.task_id, record.sample), ())) for record in first]
    return with_verdicts(whole, verdicts)


def _summed(first: TaskRecord, later: Sequence[TaskRecord]) -> TaskRecord:
    if not later:
        return first
    every = (first, *later)
    return replace(
        first,
        finish_reason=later[-1].finish_reason,
        round=later[-1].round,
        prompt_tokens=sum(r.prompt_tokens for r in every),
        output_tokens=sum(r.output_tokens for r in every),
        latency_s=sum(r.latency_s for r in every),
        energy_j=_sum([r.energy_j for r in every]),
        energy_net_j=_sum([r.energy_net_j for r in every]),
        thinking_tokens=_sum([r.thinking_tokens for r in every]),
    )


def _sum(values: Sequence[_Number | None]) -> _Number | None:
    """None where one is not known."""
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if len(known) == len(values) else None


def with_verdicts(records: Sequence[TaskRecord], verdicts: Verdicts) -> list[TaskRecord]:
    """The records with what `verdicts` says of their samples; those without one as they are."""
    return [
        record
        if (verdict := verdicts.get((record.task_id, record.sample))) is None
        else _judged(record, verdict)
        for record in records
    ]


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
