"""What a run will do, known before any weights are loaded."""

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codejoule.common.lazily import Lazily
from codejoule.common.progress import doing
from codejoule.config import ConfigError, UserError, home
from codejoule.config.schema import (
    BatchOrder,
    EvaluatorConfig,
    EvaluatorName,
    ExperimentConfig,
    Isolation,
    QuantConfig,
    Split,
    Stage,
    Thinking,
    Variant,
    Weights,
)
from codejoule.config.typed import to_plain
from codejoule.domain import Prompt, Suite, Task
from codejoule.domain.text import THINKING_ENDS, thinking_end
from codejoule.evaluation import environment_name, with_python
from codejoule.experiment.adapters import adapter_folder
from codejoule.experiment.devices import choose_device, gpus_in_use, name_of_gpus
from codejoule.experiment.identity import configuration, fingerprint, identity, prompts_checksum
from codejoule.experiment.memory import MemoryPlan, check_memory_before_download, plan_memory
from codejoule.experiment.training_data import (
    TrainingData,
    load_training_data,
    training_identity,
)
from codejoule.generation import ServedModel, engine_class
from codejoule.measurement import Hardware, detect_hardware, energy_sources, find_server
from codejoule.models import (
    Checkpoint,
    check_capability,
    check_model_config,
    load_tokenizer,
    locate_checkpoint,
    locate_served,
)
from codejoule.sandbox import describe_interpreter
from codejoule.suites import build_prompt, load_suite

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FEWEST_WINDOWS = 8
"""Accounting windows of an engine that refills, at least, where there are as many requests: fewer
blocks say little about tasks like these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One sample to draw."""

    task: Task
    """The task."""
    sample: int
    """Number of the sample, from 0."""
    prompt: Prompt | None = None
    """What the model is asked, where that is the sample's own; None for its task's prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run's ingredients, located and identified."""

    experiment: ExperimentConfig
    """The configuration."""
    suite: Suite
    """The tasks."""
    prompts: Mapping[str, Prompt]
    """What the model is asked, by task: the prompt of its first sample."""
    checkpoint: Checkpoint
    """The weights."""
    hardware: Hardware
    """This machine."""
    device: str
    """``cpu`` or ``cuda``."""
    gpus: tuple[int, ...]
    """The GPUs that the model will lie on, by PyTorch's numbers: those the meter counts, and no
    others. Empty on the CPU."""
    served: ServedModel | None
    """The model of an engine that has one of its own; None where one is loaded for it."""
    processes: tuple[int, ...]
    """Processes that work for the run and are not started by it: a server's."""
    memory: MemoryPlan | None
    """What it will need of which device; None for an architecture that the estimator does not
    know."""
    configuration: str
    """Hash of what the configuration asks for."""
    identity: Mapping[str, Any]
    """All that can change the result."""
    batches: Sequence[Sequence[Request]]
    """The requests in order, cut into the batches that are decoded together; for an engine that
    refills, all of them; none for a run that trains."""
    training: TrainingData | None = None
    """What a run that trains an adapter learns; None for one that generates."""
    round: int = 1
    """Which of the repair rounds these are the requests of."""

    @property
    def fingerprint(self) -> str:
        """Hash of all that can change the result."""
        return fingerprint(self.identity)

    @property
    def requests(self) -> int:
        """How many there are."""
        if not self.batches:
            return 0
        # All but the last are of one size.
        return (len(self.batches) - 1) * len(self.batches[0]) + len(self.batches[-1])

    @property
    def max_new_tokens(self) -> int:
        """Limit on new tokens: the configuration's own, else the suite's."""
        return self.experiment.generation.max_new_tokens or self.suite.max_new_tokens

    @property
    def timeout_s(self) -> float:
        """Time that each sample has [s]."""
        return self.experiment.evaluator.timeout_s or self.suite.timeout_s

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks by their names."""
        return {task.task_id: task for task in self.suite.tasks}

    @property
    def variant(self) -> Variant:
        """What the model is, told by its tokenizer where the configuration left that open."""
        variant = self.experiment.model.variant
        assert variant is not None
        return variant

    @property
    def gpu_name(self) -> str:
        """The models of GPU in use, e.g. ``NVIDIA H200`` or ``2 x NVIDIA H200``."""
        return name_of_gpus(self.gpus, self.hardware)

    @property
    def isolated(self) -> bool:
        """Whether the model lives in a child process of its own."""
        if self.experiment.engine.facts.runs_already:
            return False
        if self.experiment.isolation is Isolation.auto:
            return self.device == "cuda"
        return self.experiment.isolation is not Isolation.inline

    @property
    def loads(self) -> str | None:
        """What jobs that share a process must load alike; None for a job that shares none. Runs
        that repeat another share none either, unless that is asked for: what a start changes is
        part of how much runs differ."""
        alike = loaded_alike(self.experiment)
        if not self.isolated or alike is None:
            return None
        found = (self.checkpoint.checksum, self.device, self.gpus)
        return json.dumps([alike, found], sort_keys=True)

    @property
    def device_map(self) -> Mapping[str, int] | None:
        """GPU of each part of the model; None where one device holds everything."""
        return None if self.memory is None else self.memory.device_map

    def seed(self, batch: int, first: int = 0) -> int:
        """Seed of one batch: the same again when a killed run is continued. `first` is where a part
        of a batch begins that memory was too small for."""
        return _seed(self._seeded(batch, first))

    @property
    def window_tasks(self) -> int:
        """How many sequences end in an accounting window of an engine that refills: as many as
        ``engine.window_tasks`` says, else a batch's, halved until there are `FEWEST_WINDOWS`."""
        tasks = self.experiment.engine.window_tasks
        if tasks is None:
            tasks, requests = self.experiment.batch.size, self.requests
            while tasks > 1 and math.ceil(requests / tasks) < FEWEST_WINDOWS:
                tasks = math.ceil(tasks / 2)
        return tasks

    def arrivals_s(self, batch: int, first: int = 0) -> tuple[float, ...] | None:
        """When each of a batch's requests from `first` on arrives [s after the opening]: a Poisson
        process with a seed of its own, derived as `seed` is. None in a closed loop."""
        rate = self.experiment.batch.arrival_rate_per_s
        if rate is None:
            return None
        rng = np.random.default_rng(_seed(f"{self._seeded(batch, first)}/arrivals"))
        gaps_s = rng.exponential(1 / rate, size=len(self.batches[batch]) - first)
        return tuple(np.cumsum(gaps_s).tolist())

    def _seeded(self, batch: int, first: int) -> str:
        text = f"{self.experiment.generation.seed}/{self.experiment.repeat}/{batch}"
        text += f"/round {self.round}" if self.round > 1 else ""
        return f"{text}/{first}" if first else text


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def loaded_alike(experiment: ExperimentConfig) -> Mapping[str, Any] | None:
    """What of a configuration jobs must have in common to share a process; None where each has its
    own."""
    shared = experiment.isolation in (Isolation.shared, Isolation.shared_repeats)
    # Training changes what was loaded.
    if not shared or experiment.stage is Stage.finetune:
        return None
    plain = to_plain(experiment)
    alike = {name: plain[name] for name in ("model", "quant", "engine")}
    if experiment.isolation is Isolation.shared:
        alike["repeat"] = experiment.repeat
    return alike


def make_plan(experiment: ExperimentConfig) -> Plan:
    """Load the tasks, locate the weights and identify the run; no weights are read. Raises
    `ConfigError` and `UserError` from the rooms, e.g. for a suite or weights that cannot be had, or
    a tokenizer that cannot put the tasks into a chat."""
    asked = configuration(experiment)
    suite = load_suite(experiment.suite)
    if experiment.evaluator.name is EvaluatorName.sandbox:
        judges = experiment.stage is not Stage.generate
        evaluator = with_python(experiment.evaluator, suite.tasks, judges=judges)
        experiment = dataclasses.replace(experiment, evaluator=evaluator)
    hardware, engine = detect_hardware(), experiment.engine
    quant, cache_dir = loaded_quant(experiment), quant_cache(experiment)
    processes: tuple[int, ...] = ()
    memory: MemoryPlan | None = None
    if engine.facts.runs_already:
        assert engine.url is not None
        server = find_server(engine.url, hardware)
        processes, gpus = server.pids, server.gpus
        device = "cuda" if gpus else "cpu"
    else:
        device = choose_device(experiment.device, hardware)
        check_capability(quant, device)
        check_memory_before_download(experiment, suite, hardware, device=device)
    served = engine_class(engine.name).locate(engine) if engine.facts.owns_model else None
    if engine.facts.runs_already:
        checkpoint = locate_served(experiment.model, quant, cache_dir=cache_dir)
    else:
        checkpoint = locate_checkpoint(
            experiment.model,
            quant,
            cache_dir=cache_dir,
            calibration_id=_calibration_id(experiment, suite),
            adapter=adapter_folder(experiment),
        )
        memory = plan_memory(experiment, suite, checkpoint, hardware, device=device)
        gpus = gpus_in_use(device, memory)
        if engine.facts.owns_model and len(gpus) > (engine.tensor_parallel or 1):
            raise UserError(
                f"engine={engine.name.name}: the model does not fit on one GPU; spread its layers "
                f"over {len(gpus)} (engine.tensor_parallel={len(gpus)})"
            )
        if engine.facts.one_device and len(gpus) > 1:
            raise UserError(
                f"engine={engine.name.name}: the model would lie on {len(gpus)} GPUs, and this "
                "engine needs it on one; use one GPU (gpus=1), or engine=generate"
            )
    doing("preparing the prompts")
    experiment, prompts = ask(experiment, suite, checkpoint)
    sources = energy_sources(experiment.meter, gpu=device == "cuda")
    found = {
        "weights": checkpoint.checksum,
        "prompts": prompts_checksum(prompts),
        "quant.group_size": checkpoint.quantization,
        "tasks": suite.checksum,
        "device": device,
        "gpus": len(gpus),
        "hardware": name_of_gpus(gpus, hardware) if gpus else hardware.cpu_model,
        "energy sources": [source.value for source in sources],
        **({} if served is None else {"server": [served.id, served.software]}),
        **_limits(experiment, suite, device=device, threads=hardware.cpu_threads),
    }
    training, groups = None, None
    if experiment.stage is Stage.finetune:
        training = load_training_data(
            experiment, suite, lambda other: ask(experiment, other, checkpoint)
        )
        found = training_identity(experiment.finetune, training, found)
        groups = ("model", "meter", "repeat")
        if len(gpus) > 1:
            raise UserError(
                f"stage=finetune: the model would lie on {len(gpus)} GPUs, and it is trained on "
                "one; use one GPU (gpus=1), or a smaller model"
            )
    return Plan(
        experiment=experiment,
        suite=suite,
        prompts=prompts,
        checkpoint=checkpoint,
        hardware=hardware,
        device=device,
        gpus=gpus,
        served=served,
        processes=processes,
        memory=memory,
        configuration=asked,
        identity=identity(experiment, found, groups=groups),
        batches=_batches(suite, experiment) if training is None else (),
        training=training,
    )


def check_model(experiment: ExperimentConfig) -> None:
    """Refuse a model and a quantization that contradict each other, before anything is loaded. What
    a server can run is its own affair. Raises `ConfigError`."""
    if not experiment.engine.facts.runs_already:
        check_model_config(experiment.model, loaded_quant(experiment), device=experiment.device)


def loaded_quant(experiment: ExperimentConfig) -> QuantConfig:
    """The quantization as far as it is ours to find and load: an engine that loads its model by
    itself has kernels of its own, and says itself which it does not have."""
    quant = experiment.quant
    return (
        dataclasses.replace(quant, kernel="auto") if experiment.engine.facts.owns_model else quant
    )


def ask(
    experiment: ExperimentConfig, suite: Suite, checkpoint: Checkpoint
) -> tuple[ExperimentConfig, dict[str, Prompt]]:
    """The prompt of each task (its first sample's), by task; and `experiment` with the variant of
    its model, which the tokenizer tells where ``model.variant=null``. Only a base model's prompts
    can be had without its tokenizer. Raises `ConfigError` for a tokenizer that cannot put the tasks
    into a chat."""

    asked = experiment.generation.thinking
    thinking = asked is not Thinking.off
    variant, split = experiment.model.variant, experiment.suite.split
    if variant is not Variant.base:
        tokenizer = load_tokenizer(checkpoint, experiment.model)
        variant = variant or (Variant.instruct if tokenizer.chat_template else Variant.base)
        if thinking and thinking_end(str(tokenizer.chat_template)) is None:
            raise ConfigError(
                f"generation.thinking={asked.name} with model={experiment.model.name}: its chat "
                f"template knows no thinking (it has no {' or '.join(THINKING_ENDS)}); choose "
                "generation.thinking=off, or a model that thinks (model=qwen3_8b)"
            )
    model = dataclasses.replace(experiment.model, variant=variant)
    render = None if variant is Variant.base else chat_renderer(tokenizer, thinking=thinking)
    prompts = {
        task.task_id: build_prompt(
            task, split=split, variant=variant, sample=0, render_chat=render, thinking=thinking
        )
        for task in suite.tasks
    }
    return dataclasses.replace(experiment, model=model), prompts


def chat_renderer(
    tokenizer: "PreTrainedTokenizerBase", *, thinking: bool
) -> Callable[[list[dict[str, str]]], str]:
    """What applies the chat template of `tokenizer` to messages."""

    def render(messages: list[dict[str, str]]) -> str:
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=thinking, enable_thinking=thinking
        )
        assert isinstance(text, str)
        return text

    return render


def _limits(
    experiment: ExperimentConfig, suite: Suite, *, device: str, threads: int
) -> dict[str, object]:
    limits: dict[str, object] = {
        "generation.max_new_tokens": experiment.generation.max_new_tokens or suite.max_new_tokens,
        "suite.max_new_tokens": None,
        "model.cpu_threads": (experiment.model.cpu_threads or threads) if device == "cpu" else None,
    }
    if experiment.evaluator.name is EvaluatorName.sandbox:
        limits |= {"suite.timeout_s": None} | judging_facts(experiment.evaluator, suite)
    return limits


def judging_facts(evaluator: EvaluatorConfig, suite: Suite) -> dict[str, object]:
    """What the machine that judges makes of ``evaluator``."""
    interpreter = describe_interpreter(evaluator.python)
    ours = interpreter.executable == sys.executable
    return {
        "evaluator.timeout_s": evaluator.timeout_s or suite.timeout_s,
        "evaluator.python": [
            interpreter.version,
            None if ours else environment_name(interpreter.executable),
        ],
    }


def quant_cache(experiment: ExperimentConfig) -> Path:
    """Folder in which checkpoints quantized here are kept."""
    if experiment.quant.cache_dir is not None:
        return Path(experiment.quant.cache_dir).expanduser().absolute()
    return home() / "outputs" / "quantized"


def _calibration_id(experiment: ExperimentConfig, suite: Suite) -> str:
    """What calibration texts are drawn from; a file's contents are known to `models`."""
    if experiment.quant.calibration.path is not None:
        return "a file"
    if experiment.model.weights is Weights.bundled:
        return "starter training texts"
    return f"tasks outside of {suite.checksum}"


def _batches(suite: Suite, experiment: ExperimentConfig) -> Sequence[Sequence[Request]]:
    tasks, samples = list(suite.tasks), experiment.generation.n_samples
    if experiment.batch.order is BatchOrder.length:
        instruct = experiment.suite.split is Split.instruct

        def length(task: Task) -> int:
            return len(task.instruct_prompt if instruct else task.complete_prompt)

        tasks.sort(key=length, reverse=True)

    def request(place: int) -> Request:
        task, sample = divmod(place, samples)
        return Request(task=tasks[task], sample=sample)

    return cut(Lazily(len(tasks) * samples, request), experiment)


def cut(requests: Sequence[Request], experiment: ExperimentConfig) -> Sequence[Sequence[Request]]:
    """`requests` as batches; for an engine that refills, all of them."""
    size = len(requests) if experiment.engine.facts.refills else experiment.batch.size
    count = math.ceil(len(requests) / (size or 1))
    return Lazily(count, lambda number: requests[number * size : (number + 1) * size])
