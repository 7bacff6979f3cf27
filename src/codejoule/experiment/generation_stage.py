"""The stage that uses the model: load, warm up, idle, then one metered window per batch."""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from codejoule.domain import Completion, EnergySource, PowerSample, Prompt
from codejoule.domain.steady import STEADY, steady_state
from codejoule.experiment.idle import measure_idle
from codejoule.experiment.memory import check_memory
from codejoule.experiment.memory_use import BatchLimit, is_out_of_memory, out_of_memory
from codejoule.experiment.model_stage import Kept, open_engine
from codejoule.experiment.plan import Plan, Request
from codejoule.generation import Engine
from codejoule.measurement import Meter, Window, open_meter
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
Result = TypeVar("Result")


def generate(plan: Plan, folder: Path, kept: Kept | None = None) -> None:
    """Generate every batch that the journal in `folder` does not hold yet. Each batch is on disk
    before the next one starts. A batch that memory is too small for is decoded in halves, as
    ``batch.on_out_of_memory`` says. What `kept` has of an earlier job is taken over, and it keeps
    what is loaded now. Raises `UserError` when memory does not suffice, and whatever the rooms
    raise."""
    with Journal(folder) as journal:
        done = _done(journal)
        todo = [n for n, batch in enumerate(plan.batches) if done[n] < len(batch)]
        if not todo:
            return
        if kept is None or kept.empty:
            check_memory(plan.experiment, plan.memory, plan.hardware, device=plan.device)
        facts = plan.experiment.engine.facts
        starts = (os.getpid(),) if facts.owns_model and not facts.runs_already else ()
        with open_meter(
            plan.experiment.meter, gpu_indices=plan.gpus, processes=plan.processes or starts
        ) as meter:
            try:
                _generate(plan, journal, meter, todo, kept)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                raise out_of_memory(error, plan, None, can_halve=False) from error


def _done(journal: Journal) -> Counter[int]:
    """Sequences of each planned batch that are done, from its first on."""
    done: Counter[int] = Counter()
    for entry in journal.entries(Batch):
        done[entry.batch] += len(entry.completions)
    return done


def _generate(
    plan: Plan, journal: Journal, meter: Meter, todo: Sequence[int], kept: Kept | None
) -> None:
    if len(todo) < len(plan.batches):
        done = len(plan.batches) - len(todo)
        _log.info("continues: %d of %d batches were done before", done, len(plan.batches))
    cooling = meter.cool_down()
    if cooling is not None:
        journal.append(CooledDown(**asdict(cooling)))
    windows = {number: _prompts(plan, plan.batches[number]) for number in todo}
    engine, peak_bytes = open_engine(plan, meter, journal, list(windows.values()), kept)
    try:
        limit = BatchLimit(plan, journal)
        _Decoding(plan, journal, meter, engine, limit, windows).run(peak_bytes)
    finally:
        if kept is None or not kept.keeps(engine):
            engine.close()


@dataclass(frozen=True, slots=True)
class _Decoding:
    """The windows that are left, and what decodes and meters them."""

    plan: Plan
    journal: Journal
    meter: Meter
    engine: Engine
    limit: BatchLimit
    windows: Mapping[int, Sequence[Prompt]]

    def run(self, peak_bytes: Callable[[], int | None]) -> None:
        """Compile, warm up, idle, decode; each on record as it is done."""
        config, journal, meter = self.plan.experiment.engine, self.journal, self.meter
        self._prepare(list(self.windows.values()))
        with meter.window("warmup") as window:
            for prompts in list(self.windows.values())[: config.warmup_batches]:
                self._warm_up(prompts, tokens=config.warmup_tokens)
        journal.append(WarmedUp(reading=window.reading))
        declared = {"kv_cache": config.facts.cache.value, "samples_repeat": config.facts.repeats}
        journal.append(EngineSetUp(declared | self.engine.facts()))
        journal.append(measure_idle(self.plan, meter))
        total, done = sum(map(len, self.plan.batches)), _done(journal).total()
        tokens, power, began = 0, list[PowerSample](), time.monotonic()
        with tqdm(total=total, initial=done, unit="task", disable=None, leave=False) as progress:
            for number in self.windows:
                for entry in self._decode(number, ended=progress.update):
                    journal.append(replace(entry, memory_peak_bytes=peak_bytes()))
                    tokens += sum(completion.output_tokens for completion in entry.completions)
                    # What ran out of memory has to be done again.
                    progress.n = _done(journal).total()
                    new = meter.new_power()
                    speed = _speed(tokens, time.monotonic() - began, new, meter)
                    progress.set_postfix_str(speed)
                    power += new
                    if len(power) >= _POWER_CHUNK:
                        journal.append(Power(samples=tuple(power)))
                        power = []
        if power := power + meter.new_power():
            journal.append(Power(samples=tuple(power)))

    def _prepare(self, windows: Sequence[Sequence[Prompt]]) -> None:
        """Compile and capture before anything is measured; the energy is booked apart. An engine
        with a model of its own has done it while that was made ready."""
        facts = self.plan.experiment.engine.facts
        while facts.compiles and not facts.owns_model:
            size = self.limit.size
            with self.meter.window("compile") as window:
                _, error = _tried(partial(self.engine.prepare, windows, at_once=size))
            self.journal.append(Compiled(reading=window.reading))
            if error is None:
                return
            self.limit.reduce(error, sequences=size, during="compile", reading=None)

    def _warm_up(self, prompts: Sequence[Prompt], *, tokens: int) -> None:
        """Warm up with as many of a batch's prompts as will be decoded at once."""
        while True:
            chosen = prompts[: self.limit.size]
            _, error = _tried(partial(self.engine.warm_up, chosen, tokens=tokens))
            if error is None:
                return
            self.limit.reduce(error, sequences=len(chosen), during="warmup", reading=None)

    def _decode(self, number: int, *, ended: Callable[[int], object]) -> Iterator[Batch]:
        """What is left of one planned window: at once, or in parts where memory is too small. An
        engine that refills takes the whole window and decodes fewer of it at once. An attempt that
        ran out of memory has its own reading, which is in no window's energy."""
        prompts, limit = self.windows[number], self.limit
        first = _done(self.journal)[number]
        while first < len(prompts):
            refills = self.plan.experiment.engine.facts.refills
            chosen = prompts[first : None if refills else first + limit.size]
            with self.meter.window("batch") as window:
                decoded, error = _tried(
                    partial(
                        self.engine.generate,
                        chosen,
                        at_once=limit.size,
                        seed=self.plan.seed(number, first),
                        arrivals_s=self.plan.arrivals_s(number, first),
                        mark=window.mark,
                        ended=ended,
                    )
                )
                if decoded is not None:
                    _mark_steady_state(window, decoded.completions, slots=limit.size)
            if error is not None:
                at_once = min(limit.size, len(chosen))
                limit.reduce(error, sequences=at_once, during="batch", reading=window.reading)
                self._prepare([self.windows[n] for n in self.windows if n >= number])
                continue
            assert decoded is not None
            yield Batch(
                batch=number,
                first=first,
                completions=decoded.completions,
                reading=window.reading,
                positions=decoded.positions,
                memory_peak_bytes=None,
            )
            first += len(chosen)


def _tried(work: Callable[[], Result]) -> tuple[Result | None, RuntimeError | None]:
    """What `work` gives, or the error that may be a lack of memory: a window around an attempt
    that failed has its energy."""
    try:
        return work(), None
    except RuntimeError as error:
        return None, error


def _mark_steady_state(window: Window, completions: Sequence[Completion], *, slots: int) -> None:
    """Have the part of a window's energy known that fell to its steady state, where it had one."""
    paces = [completion.pace for completion in completions if completion.pace is not None]
    if (found := steady_state(paces, slots=slots)) is not None:
        window.mark_part(STEADY, *found)


def _prompts(plan: Plan, batch: Sequence[Request]) -> list[Prompt]:
    return [replace(plan.prompts[r.task.task_id], sample=r.sample) for r in batch]


def _speed(tokens: int, seconds: float, power: Sequence[PowerSample], meter: Meter) -> str:
    """For the progress bar; power where all devices in scope have told theirs meanwhile."""
    last_w = {sample.device: sample.power_w for sample in power if sample.device in meter.devices}
    watts = f", {sum(last_w.values()):.0f} W" if len(last_w) == len(meter.devices) else ""
    label = " (estimate)" if watts and meter.source is EnergySource.estimate else ""
    return f"{tokens / seconds:.0f} tokens/s{watts}{label}"
