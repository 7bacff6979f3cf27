"""What a finished journal says, and the row of each sample."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from codejoule.common.lazily import Lazily, end_to_end
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
from codejoule.experiment.verdicts import Key, RepairedVerdicts, Verdicts
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
class RoundResults:
    """What a finished journal says of one repair round."""

    windows: range
    """The places of its windows among all of the run's."""
    answers: range
    """The places of its answers."""
    judged: Judgement
    """The verdicts on its programs."""
    shown: Judgement
    """What the shown tests said of them; nothing in the last round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a finished journal says."""

    rounds: Sequence[RoundResults]
    """Its rounds; one where nothing was repaired."""
    batches: Sequence[Batch]
    """The windows in their order, round by round, each read when it is asked for."""
    answers: Sequence[Answer]
    """Of each request, in the order of the requests, round by round."""
    shares: Shares
    """Whose energy was whose."""
    unresolved: int
    """Windows whose energy is not known: they were shorter than a tick of the counter."""
    memory_peak_bytes: int | None
    """Largest memory in the process that generated [bytes]; None where not known."""
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
    power: Packed[PowerSample]
    """Power samples of all sessions."""
    concurrent: frozenset[frozenset[str]]
    """Other jobs of codejoule that were at work together during a metered window of generation or
    evaluation."""
    out_of_memory: tuple[OutOfMemory, ...]
    """Attempts that ran out of memory, and what the batch was then reduced to."""


def read_judgement(journal: Journal, kind: type[Judged] = Judged) -> Judgement:
    """The verdicts in `journal`, of one kind."""
    sandbox = next(reversed(journal.entries(SandboxSetUp)), None)
    return _judgement(Verdicts(journal.entries(kind)), sandbox)


def _judgement(verdicts: Verdicts, sandbox: SandboxSetUp | None) -> Judgement:
    return Judgement(
        verdicts=verdicts,
        source=verdicts.source,
        sources=verdicts.sources,
        sandbox=sandbox,
        hosts=verdicts.hosts,
        concurrent=frozenset(verdicts.concurrent),
    )


def read_results(folder: Path) -> Results:
    """The journal in `folder`, as a whole: what is held of a sample are numbers, and its text is
    read from there, as long as it lies there."""
    with Journal(folder) as journal:
        entries = journal.entries
        parts: list[Sequence[Batch]] = []
        rounds: list[RoundResults] = []
        windows = answers = unresolved = 0
        peak_bytes, concurrent = None, set()
        while not rounds or journal.of_round(len(rounds) + 1).count(Batch):
            part = journal.of_round(len(rounds) + 1)
            parts.append(_moved(by_number(part.entries(Batch)), answers))
            begin = answers
            for entry in parts[-1]:
                answers += len(entry.completions)
                unresolved += math.isnan(entry.reading.energy_j)
                concurrent.add(frozenset(entry.reading.concurrent))
                if entry.memory_peak_bytes is not None:
                    peak_bytes = max(entry.memory_peak_bytes, peak_bytes or 0)
            rounds.append(
                RoundResults(
                    windows=range(windows, windows := windows + len(parts[-1])),
                    answers=range(begin, answers),
                    judged=read_judgement(part),
                    shown=read_judgement(part, ShownJudged),
                )
            )
        batches, judged, loads = end_to_end(parts), _as_a_whole(rounds), entries(Loaded)
        return Results(
            rounds=rounds,
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


def _moved(batches: Sequence[Batch], by: int) -> Sequence[Batch]:
    """The windows of a round, behind so many sequences of earlier rounds."""

    def moved(number: int) -> Batch:
        entry = batches[number]
        if entry.slice is None:
            return entry
        places = tuple(place + by for place in entry.slice.places)
        return replace(entry, slice=replace(entry.slice, places=places))

    return Lazily(len(batches), moved) if by else batches


def _as_a_whole(rounds: Sequence[RoundResults]) -> Judgement:
    """The verdicts that count."""
    first, shown = rounds[0].judged, [each.shown.verdicts for each in rounds]
    if not any(shown):
        return first
    verdicts = RepairedVerdicts([each.judged.verdicts for each in rounds], shown)
    return _judgement(verdicts, first.sandbox)


def _comparable(quantized: Sequence[Quantized], batches: Sequence[Batch]) -> EnergyReading | None:
    if not quantized or not batches:
        return None
    reading, here = quantized[-1].reading, batches[0].reading
    return reading if (reading.source, reading.scope) == (here.source, here.scope) else None


def task_records(plan: Plan, results: Results) -> Packed[TaskRecord]:
    """One record per answer, in the order of the requests, round by round: with the verdict on its
    program, and what reaching that took."""
    # Packing makes None of an energy that is NaN.
    return Packed(
        TaskRecord,
        (
            record
            for number, each in enumerate(results.rounds, start=1)
            for record in with_verdicts(_records(plan, results, number, each), each.judged.verdicts)
        ),
    )


def _records(plan: Plan, results: Results, number: int, each: RoundResults) -> Iterator[TaskRecord]:
    domains = {task.task_id: task.domains for task in plan.suite.tasks}
    size = block_tasks(plan, results.batches[each.windows.start : each.windows.stop])
    several, shares = plan.experiment.generation.rounds > 1, results.shares
    for own, order in enumerate(each.answers):
        answer = results.answers[order]
        completion, pace = answer.completion, answer.completion.pace
        kept = shares.kept(answer.window, answer.batch.reading)
        yield TaskRecord(
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
            block=None if size is None else own // size,
            thinking_tokens=completion.thinking_tokens,
            round=number if several else None,
        )


def records_of(results: Results, attempts: Packed[TaskRecord]) -> Packed[TaskRecord]:
    """One record per sample, from those of its `attempts` in all rounds: what its tokens, time and
    energy sum up to, and the last verdict. Its order and window are those of the first round."""
    if len(results.rounds) == 1 and results.judged is results.rounds[0].judged:
        return attempts
    first = results.rounds[0]
    later: dict[Key, list[TaskRecord]] = {}
    for record in attempts[len(first.answers) :]:
        later.setdefault((record.task_id, record.sample), []).append(record)
    whole = (
        _summed(record, later.get((record.task_id, record.sample), ()))
        for record in attempts[: len(first.answers)]
    )
    return Packed(TaskRecord, with_verdicts(whole, results.judged.verdicts))


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


def with_verdicts(records: Iterable[TaskRecord], verdicts: Verdicts) -> Iterator[TaskRecord]:
    """The records with what `verdicts` says of their samples; those without one as they are."""
    for record in records:
        verdict = verdicts.get((record.task_id, record.sample))
        yield record if verdict is None else _judged(record, verdict)


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
