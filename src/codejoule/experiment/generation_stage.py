"""The stage that uses the model: load, warm up, idle, then one metered window per batch."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from codejoule.domain import Prompt
from codejoule.experiment.batch_limit import BatchLimit, is_out_of_memory, out_of_memory
from codejoule.experiment.engines import engine_at, engine_for
from codejoule.experiment.journal_entries import BatchEntry, reading_to_json
from codejoule.experiment.memory import PeakMemory
from codejoule.experiment.plan import Plan, Request
from codejoule.experiment.preflight import check_memory
from codejoule.experiment.quantize_stage import ensure_quantized
from codejoule.experiment.served import Server, check_meter, record_server

if TYPE_CHECKING:
    import torch

    from codejoule.generation import Decoded, Engine
    from codejoule.measurement import Meter
    from codejoule.models import LoadedModel
    from codejoule.tracking import Journal

_log = logging.getLogger(__name__)
_POWER_CHUNK = 50


def generate(plan: Plan, folder: Path) -> None:
    """Generate every batch that the journal in `folder` does not hold yet.

    Each batch is on disk before the next one starts. A batch that memory is too small for is
    decoded in halves, as ``batch.on_out_of_memory`` says. Raises `UserError` when memory does
    not suffice, and whatever the rooms raise.
    """
    from codejoule.measurement import open_meter
    from codejoule.tracking import Journal

    with Journal(folder) as journal:
        done = _done(journal)
        todo = [n for n, batch in enumerate(plan.batches) if done[n] < len(batch)]
        if not todo:
            return
        check_memory(
            plan.experiment, plan.memory, device=plan.device, visible=len(plan.hardware.gpus)
        )
        with open_meter(
            plan.experiment.meter,
            gpu_indices=plan.gpus,
            processes=plan.server.processes.pids if plan.server else (),
        ) as meter:
            try:
                _generate(plan, journal, meter, todo)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                raise out_of_memory(error, plan, None, can_halve=False) from error


def _done(journal: "Journal") -> Counter[int]:
    """Sequences of each planned batch that are done, from its first on."""
    done: Counter[int] = Counter()
    for entry in journal.entries("batch"):
        done[entry["batch"]] += len(entry["completions"])
    return done


def _generate(plan: Plan, journal: "Journal", meter: "Meter", todo: Sequence[int]) -> None:
    if len(todo) < len(plan.batches):
        done = len(plan.batches) - len(todo)
        _log.info("continues: %d of %d batches were done before", done, len(plan.batches))
    cooling = meter.cool_down()
    if cooling is not None:
        journal.append("cooldown", asdict(cooling))
    if plan.server is None:
        ensure_quantized(plan, meter, journal)
        memory = PeakMemory(plan.device, gpus=plan.gpus, own_process=plan.isolated)
        loaded = _load(plan, journal, meter)
        _check_logits(plan, loaded, todo)
        engine = engine_for(plan, loaded)
        peak_bytes = memory.read
    else:
        engine = _connect(plan, plan.server, journal, meter)
        peak_bytes = _not_known
    try:
        _decode_all(plan, journal, meter, todo, engine, peak_bytes)
    finally:
        engine.close()


def _connect(plan: Plan, server: Server, journal: "Journal", meter: "Meter") -> "Engine":
    """What stands for a loaded model where a server decodes."""
    from codejoule.models import load_tokenizer

    check_meter(server, meter)
    tokenizer = load_tokenizer(plan.checkpoint, plan.experiment.model)
    record_server(
        server, plan.experiment, tokenizer, meter=meter, journal=journal, device=plan.device
    )
    engine = engine_at(server, plan, tokenizer)
    engine.prepare((), at_once=1)
    return engine


def _check_logits(plan: Plan, loaded: "LoadedModel", todo: Sequence[int]) -> None:
    """Before anything is measured, read the longest prompt that is left: the likeliest to
    overflow."""
    from codejoule.generation import check_logits

    left = [prompt for number in todo for prompt in _prompts(plan, plan.batches[number])]
    longest = max(left, key=lambda prompt: len(prompt.text))
    check_logits(loaded.model, loaded.tokenizer, longest, max_new_tokens=plan.max_new_tokens)


def _not_known() -> None:
    """Memory of a process that is not ours."""


def _decode_all(
    plan: Plan,
    journal: "Journal",
    meter: "Meter",
    todo: Sequence[int],
    engine: "Engine",
    peak_bytes: Callable[[], int | None],
) -> None:
    prompts = {number: _prompts(plan, plan.batches[number]) for number in todo}
    limit = BatchLimit(plan, journal)
    _prepare(engine, meter, journal, limit, list(prompts.values()))
    warmup = [prompts[number] for number in todo[: plan.experiment.engine.warmup_batches]]
    with meter.window("warmup") as window:
        for batch in warmup:
            _warm_up(engine, batch, limit, tokens=plan.experiment.engine.warmup_tokens)
    journal.append("warmup", {"reading": reading_to_json(window.reading)})
    journal.append("engine", engine.facts())
    idle_power_w = meter.measure_idle()
    journal.append("idle", {"power_w": idle_power_w, "temperature_c": meter.temperature_c()})
    total = sum(map(len, plan.batches))
    tokens, kept, began = 0, 0, time.monotonic()
    bar = tqdm(total=total, initial=_done(journal).total(), unit="task", disable=None, leave=False)
    with bar as progress:
        for number in todo:
            entries = _decode(
                plan, engine, meter, journal, limit, number, prompts, ended=progress.update
            )
            for entry in entries:
                whole = replace(entry, memory_peak_bytes=peak_bytes())
                journal.append("batch", whole.to_json())
                tokens += sum(completion.output_tokens for completion in entry.completions)
                # What ran out of memory has to be done again.
                progress.n = _done(journal).total()
                progress.set_postfix_str(_speed(tokens, time.monotonic() - began, meter))
                kept = _keep_power(journal, meter, kept, at_least=_POWER_CHUNK)
    _keep_power(journal, meter, kept, at_least=1)


def _prepare(
    engine: "Engine",
    meter: "Meter",
    journal: "Journal",
    limit: BatchLimit,
    windows: Sequence[Sequence[Prompt]],
) -> None:
    """Compile and capture before anything is measured; the energy is booked apart."""
    while engine.compiles:
        error: RuntimeError | None = None
        with meter.window("compile") as window:
            try:
                engine.prepare(windows, at_once=limit.size)
            except RuntimeError as caught:
                error = caught
        journal.append("compile", {"reading": reading_to_json(window.reading)})
        if error is None:
            return
        limit.reduce(error, sequences=limit.size, during="compile", reading=None)


def _warm_up(
    engine: "Engine", prompts: Sequence[Prompt], limit: BatchLimit, *, tokens: int
) -> None:
    """Warm up with as many of a batch's prompts as will be decoded at once."""
    while True:
        chosen = prompts[: limit.size]
        try:
            engine.warm_up(chosen, tokens=tokens)
        except RuntimeError as caught:
            error = caught
        else:
            return
        limit.reduce(error, sequences=len(chosen), during="warmup", reading=None)


def _decode(
    plan: Plan,
    engine: "Engine",
    meter: "Meter",
    journal: "Journal",
    limit: BatchLimit,
    number: int,
    windows: Mapping[int, Sequence[Prompt]],
    *,
    ended: Callable[[int], object],
) -> Iterator[BatchEntry]:
    """What is left of one planned window: at once, or in parts where memory is too small.

    An engine that refills takes the whole window and decodes fewer of it at once. An attempt that
    ran out of memory has its own reading, which is in no window's energy.
    """
    prompts = windows[number]
    first = _done(journal)[number]
    while first < len(prompts):
        last = None if plan.experiment.engine.refills else first + limit.size
        chosen = prompts[first:last]
        error: RuntimeError | None = None
        decoded: Decoded | None = None
        with meter.window("batch") as window:
            try:
                decoded = engine.generate(
                    chosen,
                    at_once=limit.size,
                    seed=plan.seed(number, first),
                    mark=window.mark,
                    ended=ended,
                )
            except RuntimeError as caught:
                error = caught
        if error is not None:
            at_once = min(limit.size, len(chosen))
            limit.reduce(error, sequences=at_once, during="batch", reading=window.reading)
            _prepare(engine, meter, journal, limit, [windows[n] for n in windows if n >= number])
            continue
        assert decoded is not None
        yield BatchEntry(
            batch=number,
            first=first,
            completions=decoded.completions,
            reading=window.reading,
            positions=decoded.positions,
            memory_peak_bytes=None,
        )
        first += len(chosen)


def _keep_power(journal: "Journal", meter: "Meter", kept: int, *, at_least: int) -> int:
    """Put power samples beyond the first `kept` on record; how many are kept then."""
    samples = meter.timeline()
    if len(samples) - kept < at_least:
        return kept
    journal.append("power", {"samples": [asdict(sample) for sample in samples[kept:]]})
    return len(samples)


def _load(plan: Plan, journal: "Journal", meter: "Meter") -> "LoadedModel":
    from codejoule.models import load_model, prepare_libraries

    # This is not loading a model, and only the first job of a process (or a machine) does it.
    model = plan.experiment.model
    quant = prepare_libraries(model, plan.experiment.quant, device=plan.device)
    with meter.window("load") as window:
        loaded = load_model(
            plan.checkpoint,
            model,
            quant,
            device=plan.device,
            device_map=plan.device_map,
        )
    meter.require_devices(_gpus_of(loaded.model))
    journal.append(
        "load",
        {
            "reading": reading_to_json(window.reading),
            "model": loaded.facts.to_json(),
            "meter": {
                "source": meter.source.value,
                "scope": meter.scope.value,
                "devices": list(meter.devices),
            },
        },
    )
    return loaded


def _gpus_of(model: "torch.nn.Module") -> set[int]:
    """Numbers of the GPUs that hold some of the model."""
    places = (tensor.device for tensor in chain(model.parameters(), model.buffers()))
    return {place.index or 0 for place in places if place.type == "cuda"}


def _prompts(plan: Plan, batch: Sequence[Request]) -> list[Prompt]:
    return [replace(plan.prompts[r.task.task_id], sample=r.sample) for r in batch]


def _speed(tokens: int, seconds: float, meter: "Meter") -> str:
    power_w = meter.power_w()
    watts = "" if power_w is None else f", {power_w:.0f} W"
    label = " (estimate)" if watts and meter.source.value == "estimate" else ""
    return f"{tokens / seconds:.0f} tokens/s{watts}{label}"
