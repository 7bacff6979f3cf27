"""The stage that uses the model: load, warm up, idle, then metered windows."""

import logging
import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from weakref import WeakKeyDictionary

from codejoule.common.progress import doing
from codejoule.config import UserError
from codejoule.domain import EnergyReading, EnergySource, PowerSample, Prompt
from codejoule.domain.text import duration
from codejoule.domain.text import number as figure
from codejoule.experiment import stopping
from codejoule.experiment.evaluation_stage import judge_by_shown_tests, judged_by_shown_tests
from codejoule.experiment.finetune_stage import has_trained, train
from codejoule.experiment.idle import measure_idle
from codejoule.experiment.memory import check_memory
from codejoule.experiment.memory_use import BatchLimit, is_out_of_memory, out_of_memory
from codejoule.experiment.model_stage import Kept, open_engine
from codejoule.experiment.plan import Plan
from codejoule.experiment.rounds import Round, each_round, longest_repair
from codejoule.experiment.session import Session
from codejoule.generation import Decoded, Ended, Engine
from codejoule.measurement import Meter, open_meter
from codejoule.tracking import Journal
from codejoule.tracking.entries import (
    Batch,
    Compiled,
    CooledDown,
    EngineSetUp,
    Power,
    WarmedUp,
)

_log = logging.getLogger(__name__)
_POWER_CHUNK = 50


def generate(plan: Plan, folder: Path, kept: Kept | None = None) -> None:
    """Generate what the journal in `folder` does not hold yet: batch by batch, or, with an engine
    that refills, all in one go, in windows that are cut as sequences end. Each window is on disk
    before the one after the next. Where memory is too small, fewer sequences are decoded at once,
    as ``batch.on_out_of_memory`` says. What `kept` has of an earlier job is taken over, and it
    keeps what is loaded now. Raises `UserError` when memory does not suffice, and whatever the
    rooms raise. A plan to train an adapter is carried out by `train`."""
    if plan.training is not None:
        train(plan, folder)
        return
    with Journal(folder) as journal:
        rounds = _rounds_left(plan, journal)
        first = next(rounds, None)
        if first is None:
            return
        if kept is None or kept.empty:
            check_memory(plan.experiment, plan.memory, plan.hardware, device=plan.device)
        facts = plan.experiment.engine.facts
        starts = (os.getpid(),) if facts.owns_model and not facts.runs_already else ()
        with open_meter(
            plan.experiment.meter, gpu_indices=plan.gpus, processes=plan.processes or starts
        ) as meter:
            try:
                _generate(first, rounds, meter, kept)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                raise out_of_memory(error, plan, None, can_halve=False) from error


def has_generated(plan: Plan, folder: Path) -> bool:
    """Whether the journal in `folder` holds all that `generate` would generate."""
    if plan.training is not None:
        return has_trained(folder)
    with Journal(folder) as journal:
        for each in each_round(plan, journal):
            if _left(each.plan, each.journal) or not (each.last or judged_by_shown_tests(each)):
                return False
        return True


def _rounds_left(plan: Plan, journal: Journal) -> Iterator[Round]:
    """The rounds that are not generated, one after the other. Before the next is given, the one
    before is judged by the shown tests."""
    for each in each_round(plan, journal):
        if each.too_long:
            _log.warning(
                "round %d: %d programs that failed are not repaired: what the model would be asked "
                "does not fit its context",
                each.plan.round, len(each.too_long),
            )  # fmt: skip
        if _left(each.plan, each.journal):
            yield each
        if not each.last:
            judge_by_shown_tests(each)


def _left(plan: Plan, journal: Journal) -> Mapping[int, tuple[int, ...]]:
    """Of each planned batch that is not done, the places of its requests that are left."""
    if journal not in _lefts:
        _lefts[journal] = _Left(plan)
    return _lefts[journal].after(journal)


class _Left:
    """What is left, as far as a journal has been read: of a hundred thousand batches none is read
    twice."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._read = 0
        # Batches of one size share their places.
        places = {size: tuple(range(size)) for size in set(map(len, plan.batches))}
        self._places = {number: places[len(batch)] for number, batch in enumerate(plan.batches)}

    def after(self, journal: Journal) -> Mapping[int, tuple[int, ...]]:
        """What is left after what the journal holds by now."""
        refills = self._plan.experiment.engine.facts.refills
        new = journal.entries(Batch)[self._read :]
        self._read += len(new)
        # Of an engine that refills, a window is part of the one batch that there is.
        for number, entries in groupby(new, lambda entry: 0 if refills else entry.batch):
            done = {place for entry in entries for place in self._done(number, entry)}
            left = tuple(place for place in self._places.get(number, ()) if place not in done)
            # In its place: batches come in their order, what is left of one before the next.
            if left:
                self._places[number] = left
            else:
                self._places.pop(number, None)
        return self._places

    def _done(self, number: int, entry: Batch) -> Iterable[int]:
        """The places of an entry's requests in the planned batch of that number."""
        if entry.slice is not None:
            return entry.slice.places
        ended = {(completion.task_id, completion.sample) for completion in entry.completions}
        return [
            place
            for place, request in enumerate(self._plan.batches[number])
            if (request.task.task_id, request.sample) in ended
        ]


_lefts: WeakKeyDictionary[Journal, _Left] = WeakKeyDictionary()


def _prompts(plan: Plan, number: int, places: Sequence[int]) -> list[Prompt]:
    requests = [plan.batches[number][place] for place in places]
    return [r.prompt or replace(plan.prompts[r.task.task_id], sample=r.sample) for r in requests]


def _generate(first: Round, others: Iterable[Round], meter: Meter, kept: Kept | None) -> None:
    plan, journal = first.plan, first.journal
    left = _left(plan, journal)
    total = plan.requests
    if done := total - sum(map(len, left.values())):
        _log.info("continues: %d of %d sequences were done before", done, total)
    if longest_s := plan.experiment.meter.cooldown_s:
        doing("waiting until the GPUs are cool", f"at most {longest_s:g} s")
    cooling = meter.cool_down()
    if cooling is not None:
        journal.append(CooledDown(**asdict(cooling)))
    prompts = [_prompts(plan, number, places) for number, places in left.items()]
    if plan.experiment.generation.rounds > 1 and plan.experiment.engine.facts.owns_model:
        # Such an engine is told what its longest sequence may be before it loads the model.
        prompts.append([longest_repair(plan)])
    engine, peak_bytes = open_engine(plan, meter, journal, prompts, kept)
    try:
        limit = BatchLimit(plan, journal)
        _Decoding(plan, journal, meter, engine, limit, peak_bytes, done).run(idle=True)
        for each in others:
            _Decoding(each.plan, each.journal, meter, engine, limit, peak_bytes, 0).run(idle=False)
    finally:
        if kept is None or not kept.keeps(engine):
            engine.close()


@dataclass(slots=True)
class _Decoding:
    """The requests that are left, and what decodes and meters them."""

    plan: Plan
    journal: Journal
    meter: Meter
    engine: Engine
    limit: BatchLimit
    peak_bytes: Callable[[], int | None]
    done: int
    """Sequences that have ended, those of earlier attempts at this run included."""
    done_here: int = 0
    tokens: int = 0
    energy_j: float = 0.0
    power_w: str = ""
    began_s: float = 0.0
    power: list[PowerSample] = field(default_factory=list)

    def run(self, *, idle: bool) -> None:
        """Compile, warm up, with `idle` measure that, decode; each on record as it is done."""
        config, journal, meter = self.plan.experiment.engine, self.journal, self.meter
        self._prepare()
        doing("warming up")
        with meter.window("warmup") as window:
            for prompts in self._cut()[: config.warmup_batches]:
                self._warm_up(prompts, tokens=config.warmup_tokens)
        journal.append(WarmedUp(reading=window.reading))
        declared = {"kv_cache": config.facts.cache.value, "samples_repeat": config.facts.repeats}
        journal.append(EngineSetUp(declared | self.engine.facts()))
        if idle:
            journal.append(measure_idle(self.plan, meter))
        self.began_s = time.monotonic()
        self._tell()
        decode = self._refill if config.facts.refills else self._decode
        with stopping.finishing():
            while left := _left(self.plan, journal):
                decode(*next(iter(left.items())))
                stopping.check()
        self._keep_power(at_least=1)

    def _book(self, entry: Batch) -> None:
        """Put a window on record, with what can be said of it meanwhile."""
        self.journal.append(entry)
        self.tokens += sum(completion.output_tokens for completion in entry.completions)
        self.energy_j += entry.reading.energy_j
        new = self.meter.new_power()
        self.power_w = _power(new, self.meter) or self.power_w
        self._tell()
        self.power += new
        self._keep_power(at_least=_POWER_CHUNK)

    def _tell(self, ended: int = 0) -> None:
        """Say how far it is, after `ended` more sequences have ended."""
        self.done += ended
        self.done_here += ended
        total = self.plan.requests
        took_s = time.monotonic() - self.began_s
        each = "tasks" if self.plan.experiment.generation.n_samples == 1 else "samples"
        in_round = f"round {self.plan.round}: " if self.plan.round > 1 else ""
        said = [f"{in_round}{self.done}/{total} {each}"]
        if self.tokens:
            # The line is short of room, and a figure with "~" is known for an estimate.
            source = self.meter.source
            about, label = ("~", "") if source is EnergySource.estimate else ("", source.label)
            said.append(f"{self.tokens / took_s:.0f} tokens/s")
            said += [f"{about}{self.power_w}{label}"] if self.power_w else []
            if math.isfinite(self.energy_j):
                said.append(f"{about}{figure(self.energy_j)} J so far{label}")
        if self.done_here:
            rest_s = took_s * (total - self.done) / self.done_here
            said += [f"{duration(rest_s)} to go"] if rest_s >= 1 else []
        doing("generating", ", ".join(said))

    def _keep_power(self, *, at_least: int) -> None:
        self.power += self.meter.new_power()
        if len(self.power) >= at_least:
            self.journal.append(Power(samples=tuple(self.power)))
            self.power = []

    def _cut(self) -> list[list[Prompt]]:
        """What is left, as many at once as will be decoded."""
        size = self.limit.size
        return [
            _prompts(self.plan, number, places[i : i + size])
            for number, places in _left(self.plan, self.journal).items()
            for i in range(0, len(places), size)
        ]

    def _prepare(self) -> None:
        """Compile and capture before anything is measured; the energy is booked apart. An engine
        with a model of its own has done it while that was made ready."""
        facts = self.plan.experiment.engine.facts
        left = _left(self.plan, self.journal)
        windows = [_prompts(self.plan, number, places) for number, places in left.items()]
        while facts.compiles and not facts.owns_model:
            size = self.limit.size
            doing("compiling")
            with self.meter.window("compile") as window:
                error = _tried(partial(self.engine.prepare, windows, at_once=size))
            self.journal.append(Compiled(reading=window.reading))
            if error is None:
                return
            self.limit.reduce(error, sequences=size, during="compile", reading=None)

    def _warm_up(self, prompts: Sequence[Prompt], *, tokens: int) -> None:
        """Warm up with as many of a batch's prompts as will be decoded at once."""
        while True:
            chosen = prompts[: self.limit.size]
            error = _tried(partial(self.engine.warm_up, chosen, tokens=tokens))
            if error is None:
                return
            self.limit.reduce(error, sequences=len(chosen), during="warmup", reading=None)

    def _decode(self, number: int, places: Sequence[int]) -> None:
        """The first part of what is left of one batch: all of it, unless memory is too small. An
        attempt that ran out of memory has its own reading, which is in no window's energy."""
        chosen = places[: self.limit.size]
        found: list[Decoded] = []
        with self.meter.window("batch") as window:
            error = _tried(
                lambda: found.append(
                    self.engine.generate(
                        _prompts(self.plan, number, chosen),
                        at_once=self.limit.size,
                        seed=self.plan.seed(number, chosen[0]),
                        mark=window.mark,
                    )
                )
            )
        if error is not None:
            self._reduce(error, sequences=len(chosen), reading=window.reading)
            return
        (decoded,) = found
        self._tell(ended=len(chosen))
        self._book(
            Batch(
                batch=number,
                first=chosen[0],
                completions=decoded.completions,
                reading=window.reading,
                positions=decoded.positions,
                memory_peak_bytes=self.peak_bytes(),
            )
        )

    def _reduce(self, error: Exception, *, sequences: int, reading: EnergyReading | None) -> None:
        self.limit.reduce(error, sequences=sequences, during="batch", reading=reading)
        self._prepare()

    def _refill(self, number: int, places: Sequence[int]) -> None:
        """All that is left, in one go; sequences that have ended are on record when it fails, and
        when a stop is asked for. Those that had not ended are then left."""
        at_once = min(self.limit.size, len(places))
        done = len(self.plan.batches[number]) - len(places)
        error: Exception | None = None
        try:
            with self.meter.slices("batch") as slices:
                session = Session(
                    slices,
                    places=places,
                    at_once=at_once,
                    window_tasks=self.plan.window_tasks,
                    shortest_s=self.meter.shortest_s,
                    first=self.journal.count(Batch),
                )
                told = self.engine.stream(
                    _prompts(self.plan, number, places),
                    at_once=self.limit.size,
                    seed=self.plan.seed(number),
                    arrivals_s=self.plan.arrivals_s(number, done),
                    mark=slices.mark,
                )
                with closing(told):
                    while True:
                        ended, error = _next(told)
                        if ended is None:
                            break
                        self._tell(ended=len(ended.completions))
                        session.take(ended)
                        for entry in session.settled():
                            self._book(entry)
                        if stopping.asked():
                            break
            for entry in session.rest():
                self._book(replace(entry, memory_peak_bytes=None if error else self.peak_bytes()))
        except UserError:
            # A counter may have ended with the engine, whose error says more.
            if error is not None:
                raise error from None
            raise
        if error is not None:
            self._reduce(error, sequences=at_once, reading=session.lost)


def _next(told: Generator[Ended]) -> tuple[Ended | None, Exception | None]:
    """What is told next, or what keeps it from being told; neither at the end."""
    try:
        return next(told, None), None
    except Exception as error:
        return None, error


def _tried(work: Callable[[], object]) -> RuntimeError | None:
    """The error that may be a lack of memory: a window around an attempt that failed has its
    energy."""
    try:
        work()
    except RuntimeError as error:
        return error
    return None


def _power(power: Sequence[PowerSample], meter: Meter) -> str:
    """The last power of all devices in scope, where each has told its own; else empty."""
    last_w = {sample.device: sample.power_w for sample in power if sample.device in meter.devices}
    return f"{sum(last_w.values()):.0f} W" if len(last_w) == len(meter.devices) else ""
