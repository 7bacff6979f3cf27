"""The first half of the stage that uses the model: an engine, ready to decode, and its model, which
is quantized here, once, where that is asked for; its energy is in the journal."""

import json
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.common.progress import doing
from codejoule.config import ConfigError, UserError, write_whole
from codejoule.config.schema import Stop, Weights
from codejoule.domain import (
    EnergyReading,
    EnergySource,
    Prompt,
    dtype_in_force,
    from_json,
    to_json,
)
from codejoule.domain.text import size
from codejoule.estimate import memory_needed
from codejoule.experiment.memory_use import PeakMemory
from codejoule.experiment.plan import Plan
from codejoule.generation import (
    Decoding,
    EndFinder,
    Engine,
    ModelSource,
    ServedModel,
    check_logits,
    make_engine,
)
from codejoule.measurement import Meter, mapped_by
from codejoule.models import (
    LoadedModel,
    bundled_calibration_texts,
    config_of,
    end_token_owners,
    load_model,
    load_tokenizer,
    prepare_libraries,
    quantize_checkpoint,
    stored_modules,
    write_config,
)
from codejoule.models.declared import with_group_size
from codejoule.models.folder import weight_files
from codejoule.models.kernel_time import KernelTimes, kernel_times
from codejoule.models.quantization import quantizer_of
from codejoule.suites import ProgramEnd, load_suite, stops_for
from codejoule.tracking import Journal
from codejoule.tracking.entries import UNPROVEN, Compiled, Loaded, MeterFacts, Quantized

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

_READING = "quantize_energy.json"

_SLOWER = 1.1
"""Times as long: less is noise."""


@dataclass(slots=True)
class Kept:
    """What a process that jobs share holds for the next of them."""

    model: LoadedModel | None = None
    engine: Engine | None = None
    """One that has a model of its own."""

    @property
    def empty(self) -> bool:
        """Whether nothing has been loaded yet."""
        return self.model is None and self.engine is None

    def close(self) -> None:
        """End what holds a model in a process of its own."""
        if self.engine is not None:
            self.engine.close()

    def keeps(self, engine: Engine) -> bool:
        """Whether `engine` is what it holds."""
        return self.engine is engine


def open_engine(
    plan: Plan,
    meter: Meter,
    journal: Journal,
    windows: Sequence[Sequence[Prompt]],
    kept: Kept | None,
) -> tuple[Engine, Callable[[], int | None]]:
    """The engine that `plan` asks for, and what tells the peak of its memory [bytes]. `windows` are
    those that are left. A run that takes over what `kept` has says so in its model's facts, and
    has no energy of loading. Raises `UserError` where the engine cannot decode the model."""
    if plan.served is not None and plan.experiment.engine.facts.runs_already:
        engine = _served(plan, plan.served, meter, journal, windows)
        return engine, engine.memory_peak_bytes
    ensure_quantized(plan, meter, journal)
    kept = kept or Kept()
    if plan.served is not None:
        engine = _with_its_own_model(plan, plan.served, meter, journal, windows, kept)
        return engine, engine.memory_peak_bytes
    first = kept.model is None
    memory = PeakMemory(plan.device, gpus=plan.gpus, own_process=plan.isolated and first)
    reading = None
    if first:
        kept.model, reading = load(plan, meter)
    loaded = kept.model
    assert loaded is not None
    meter.require_devices(gpus_of(loaded.model))
    times = kernel_times(loaded.model, rows=plan.experiment.batch.size)
    timed = {} if times is None else {"kernel_times": asdict(times)}
    record_loaded(journal, meter, reading, loaded.facts.to_json() | timed, taken_over=not first)
    if times is not None:
        _tell_slow_kernels(plan, times)
    doing("checking the model with one prompt")
    # Before anything is measured: the longest is the likeliest to overflow.
    longest = max(chain.from_iterable(windows), key=lambda prompt: len(prompt.text))
    check_logits(loaded.model, loaded.tokenizer, longest, max_new_tokens=plan.max_new_tokens)
    engine = make_engine(plan.experiment.engine, loaded.model, loaded.tokenizer, _decoding(plan))
    return engine, memory.read


def load(plan: Plan, meter: Meter) -> tuple[LoadedModel, EnergyReading]:
    """The model that `plan` asks for, on its device, and what loading it took."""
    # This is not loading a model, and only the first job of a process (or a machine) does it.
    model = plan.experiment.model
    doing("importing libraries")
    quant = prepare_libraries(model, plan.experiment.quant, device=plan.device)
    doing(f"loading {_weights(plan)}")
    with meter.window("load") as window:
        loaded = load_model(
            plan.checkpoint, model, quant, device=plan.device, device_map=plan.device_map
        )
    return loaded, window.reading


def _weights(plan: Plan) -> str:
    """The weights that are loaded, and how many bytes where that is known."""
    name, folder = plan.experiment.model.name, plan.checkpoint.path
    if folder is None:
        return f"{name} with random weights"
    return f"{name}, {size(sum(file.stat().st_size for file in weight_files(folder)))}"


def _tell_slow_kernels(plan: Plan, times: KernelTimes) -> None:
    """Say where quantized weights take longer than unquantized ones, so that nobody takes what a
    kernel costs for what a quantization costs."""
    ratio = times.quantized_s / times.plain_s
    if ratio > _SLOWER:
        _log.warning(
            "quant=%s: with batch.size=%d its kernels take %.1f times as long as unquantized "
            "layers of the same shapes (%.0f against %.0f us for a decoder layer): the energy is "
            "what these kernels cost, not what the quantization costs; engine=vllm has others",
            plan.experiment.quant.name,
            plan.experiment.batch.size,
            ratio,
            times.quantized_s * 1e6,
            times.plain_s * 1e6,
        )


def _with_its_own_model(
    plan: Plan,
    served: ServedModel,
    meter: Meter,
    journal: Journal,
    windows: Sequence[Sequence[Prompt]],
    kept: Kept,
) -> Engine:
    """An engine that loads and compiles in a process of its own; each is booked apart."""
    experiment, size = plan.experiment, plan.experiment.batch.size
    tokenizer = load_tokenizer(plan.checkpoint, experiment.model)
    model = replace(
        served,
        end_token_owners=tuple(end_token_owners(plan.checkpoint)),
        source=_source(plan, journal.path.parent),
    )
    engine = make_engine(experiment.engine, model, tokenizer, _decoding(plan))
    if kept.engine is not None:
        engine.take_over(kept.engine)
    kept.engine = engine
    try:
        doing(f"starting {served.software}, which loads {_weights(plan)}")
        with meter.window("load") as load:
            loads = engine.open(windows, at_once=size)
        doing(f"waiting until {served.software} is ready to decode")
        with meter.window("compile") as compiled:
            engine.prepare(windows, at_once=size)
    except BaseException:
        engine.close()
        raise
    facts = {
        "software": served.software,
        "weights": plan.checkpoint.weights.name,
        "quantization": plan.checkpoint.quantization,
        "source": plan.checkpoint.source,
        "checksum": plan.checkpoint.checksum,
        "adapter": None if plan.checkpoint.adapter is None else plan.checkpoint.adapter.to_json(),
        "tokenizer": type(tokenizer).__name__,
    }
    reading = load.reading if loads else None
    record_loaded(journal, meter, reading, facts | engine.model_facts(), taken_over=not loads)
    if loads:
        journal.append(Compiled(reading=compiled.reading))
    return engine


def _source(plan: Plan, folder: Path) -> ModelSource:
    """What such an engine loads; `folder` is the run's."""
    model, checkpoint = plan.experiment.model, plan.checkpoint
    config = config_of(checkpoint, model)
    quant = with_group_size(plan.experiment.quant, config)
    place = checkpoint.path
    if place is None:
        place = folder / "random"
        write_config(config, quantizer_of(quant.method.name).declaration(quant, config), place)
    own = config.get("dtype") or config.get("torch_dtype")
    return ModelSource(
        folder=place,
        random_seed=model.random_seed if checkpoint.path is None else None,
        quant=quant,
        # Its kernels take the weights' own dtype, packed or not.
        dtype=dtype_in_force(model.dtype.name, "none", device=plan.device, own=own),
        device=plan.device,
        gpus=plan.gpus,
        cpu_threads=model.cpu_threads,
        vocabulary=config["vocab_size"],
        context_tokens=config.get("max_position_embeddings"),
        kv_cache_bytes=None
        if plan.memory is None
        else memory_needed(plan.memory.workload).kv_cache_bytes,
    )


def _served(
    plan: Plan,
    served: ServedModel,
    meter: Meter,
    journal: Journal,
    windows: Sequence[Sequence[Prompt]],
) -> Engine:
    """An engine whose model is served already: nothing is loaded here."""
    experiment = plan.experiment
    tokenizer = load_tokenizer(plan.checkpoint, experiment.model)
    _check_meter(plan, meter)
    _log.warning(
        "%s serves %r (%s): its weights, dtype and quantization are taken on its word; "
        "model=%s and quant=%s are what you say they are",
        experiment.engine.url,
        served.id,
        served.software,
        experiment.model.name,
        experiment.quant.name,
    )
    model = replace(served, end_token_owners=tuple(end_token_owners(plan.checkpoint)))
    engine = make_engine(experiment.engine, model, tokenizer, _decoding(plan))
    engine.open(windows, at_once=1)
    facts = {
        "served": True,
        "proof": _proof(plan),
        "checksum": plan.checkpoint.checksum,
        "stored_as": plan.checkpoint.stored_as,
        "stored_modules": stored_modules(plan.checkpoint),
        "served_model": served.id,
        "software": served.software,
        "claimed": {"model": experiment.model.name, "quant": experiment.quant.name},
        "tokenizer": type(tokenizer).__name__,
        "device": plan.device,
    }
    record_loaded(journal, meter, None, facts | engine.model_facts())
    return engine


def _proof(plan: Plan) -> str:
    """What shows that the server computes with the file that ``model`` names."""
    place = plan.experiment.model.path
    if place is None or not (file := Path(place).expanduser().resolve()).is_file():
        return UNPROVEN
    pids = mapped_by(plan.processes, file)
    return f"served: {file.name} is mapped into the server's memory" if pids else UNPROVEN


def _check_meter(plan: Plan, meter: Meter) -> None:
    """UserError where the meter would count this process' energy and not the server's."""
    if meter.source is EnergySource.estimate and not plan.processes:
        raise UserError(
            f"engine.url={plan.experiment.engine.url}: the server's processes cannot be seen "
            "(another user's, or in another container), so their CPU time is not known and this "
            "machine has no energy counter; start the server as the same user, outside of "
            "containers"
        )


def record_loaded(
    journal: Journal,
    meter: Meter,
    reading: EnergyReading | None,
    model: dict[str, Any],
    *,
    taken_over: bool = False,
) -> None:
    """Put on record what was loaded, and what meters the run."""
    model = model | ({"taken_over": True} if taken_over else {})
    facts = MeterFacts(
        source=meter.source, scope=meter.scope, devices=meter.devices, uuids=meter.uuids
    )
    journal.append(Loaded(reading=reading, model=model, meter=facts))


def gpus_of(model: "torch.nn.Module") -> set[int]:
    """Numbers of the GPUs that hold some of the model."""
    places = (tensor.device for tensor in chain(model.parameters(), model.buffers()))
    return {place.index or 0 for place in places if place.type == "cuda"}


def _decoding(plan: Plan) -> Decoding:
    return Decoding(
        generation=plan.experiment.generation,
        stop=tuple(stops_for(plan.suite, plan.variant)),
        max_new_tokens=plan.max_new_tokens,
        fixed_length=plan.experiment.model.weights is Weights.random,
        program_end=_program_end(plan),
    )


def _program_end(plan: Plan) -> Callable[[Prompt], EndFinder] | None:
    """What tells an engine that a prompt's program is complete, where that ends a sequence."""
    if plan.experiment.generation.stop is not Stop.complete:
        return None
    tasks, split, variant = plan.tasks, plan.experiment.suite.split, plan.variant
    return lambda prompt: ProgramEnd(tasks[prompt.task_id], split=split, variant=variant).feed


def ensure_quantized(plan: Plan, meter: Meter, journal: Journal) -> None:
    """Quantize the plan's checkpoint into the cache unless it is there. What it took is kept beside
    the checkpoint, so that a run that finds it there knows too."""
    folder = plan.checkpoint.path
    if plan.checkpoint.base_path is None or folder is None:
        return
    kept = folder / _READING
    if not plan.checkpoint.needs_quantization:
        if kept.exists() and not journal.entries(Quantized):
            # Another version of codejoule may have written it otherwise: then it is not known.
            with suppress(KeyError, TypeError, ValueError):
                earlier = from_json(EnergyReading, json.loads(kept.read_text(encoding="utf-8")))
                journal.append(Quantized(reading=earlier, earlier=True))
        return
    texts = _calibration_texts(plan)
    with meter.window("quantize") as window:
        quantize_checkpoint(
            plan.checkpoint, plan.experiment.quant, calibration_texts=texts, device=plan.device
        )
    write_whole(kept, json.dumps(to_json(window.reading)))
    journal.append(Quantized(reading=window.reading, earlier=False))


def _calibration_texts(plan: Plan) -> list[str]:
    """Texts never evaluated: a file's paragraphs, the starter model's training texts, or the
    prompts of the suite's tasks that this run leaves out."""
    calibration = plan.experiment.quant.calibration
    if calibration.path is not None:
        text = Path(calibration.path).expanduser().read_text(encoding="utf-8")
        texts = [part for part in text.split("\n\n") if part.strip()]
    elif plan.experiment.model.weights is Weights.bundled:
        texts = bundled_calibration_texts(plan.experiment.model)[: calibration.samples]
    else:
        texts = _unselected_prompts(plan)
    remedy = (
        "evaluate fewer tasks (suite.limit), or name a text file of your own in "
        "quant.calibration.path"
    )
    if not texts:
        raise ConfigError(
            f"quant={plan.experiment.quant.name}: no calibration texts are there that the run does "
            f"not evaluate; {remedy}"
        )
    if len(texts) < calibration.samples:
        _log.warning(
            "quant.calibration.samples=%d: only %d calibration texts are there that the run does "
            "not evaluate, and all are taken; for more, %s",
            calibration.samples,
            len(texts),
            remedy,
        )
    count = min(calibration.samples, len(texts))
    return random.Random(calibration.seed).sample(texts, count)


def _unselected_prompts(plan: Plan) -> list[str]:
    whole = load_suite(replace(plan.experiment.suite, limit=None, task_ids=None))
    evaluated = {task.task_id for task in plan.suite.tasks}
    return [task.complete_prompt for task in whole.tasks if task.task_id not in evaluated]
