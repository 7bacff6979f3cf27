"""The typed form of ``conf/``: what each key is, its unit and its choices.

Hydra and OmegaConf need these dataclasses mutable (frozen ones break composition in 1.3.8
/ 2.3.1); `OmegaConf.to_object` runs the checks. A field's own range is declared with it; what
several fields must be together stands in ``_check``.
"""

import math
from dataclasses import dataclass, field, fields, replace
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

from codejoule.config.installation import home
from codejoule.config.ranged import Ranged, above, at_least, ranged
from codejoule.domain.architecture import routed_experts
from codejoule.domain.engines import (
    ENGINES,
    OWN_KEYS,
    EngineFacts,
    EngineKeys,
    engines_for,
    engines_with,
    methods_of,
)
from codejoule.domain.quantization import METHODS
from codejoule.domain.suite import LIMITS_OF_BUNDLED, SuiteLimits, limits_of

Weights = StrEnum("Weights", "hub local random bundled")
Variant = StrEnum("Variant", "base instruct")
Dtype = StrEnum("Dtype", "auto float32 float16 bfloat16")
Method = Enum("Method", {name: name for name in METHODS})  # type: ignore[misc]
"""How weights are quantized; what is known of each is in `codejoule.domain.quantization`."""

QuantSource = StrEnum("QuantSource", "auto hub local")
BatchOrder = StrEnum("BatchOrder", "suite length")
Stop = StrEnum("Stop", "benchmark complete")
Split = StrEnum("Split", "complete instruct")
Thinking = StrEnum("Thinking", "off on budget")
MeterName = StrEnum("MeterName", "auto zeus cpu_estimate replay")
MeterScope = Enum("MeterScope", {"auto": "auto", "gpu+cpu": "gpu+cpu"})
"""By a call, since OmegaConf knows a choice by its name, and this one is no identifier."""

OnBusyGpu = StrEnum("OnBusyGpu", "error warn")
OnMeteredDevice = StrEnum("OnMeteredDevice", "wait error")
EvaluatorName = StrEnum("EvaluatorName", "sandbox none")
EvaluatorIsolation = StrEnum("EvaluatorIsolation", "sandbox process")
EvaluatorSpread = StrEnum("EvaluatorSpread", "here ray")
TrackingName = StrEnum("TrackingName", "local server")
Device = StrEnum("Device", "auto cpu cuda")
Isolation = StrEnum("Isolation", "auto process inline shared shared_repeats")
OnFinished = StrEnum("OnFinished", "skip rerun")
OnOtherGpu = StrEnum("OnOtherGpu", "fail anew")
OnOutOfMemory = StrEnum("OnOutOfMemory", "halve fail")
Preflight = StrEnum("Preflight", "fail warn")
Order = StrEnum("Order", "given shuffled")
Stage = StrEnum("Stage", "all generate evaluate finetune")
ProgressMode = StrEnum("ProgressMode", "auto plain none")

BUNDLED_SUITES = tuple(LIMITS_OF_BUNDLED)
"""Suites whose tasks ship with codejoule."""

LONGEST_TIMEOUT_S = 86400.0
"""What waiting takes: the kernel's clocks know neither infinity nor much more than days."""

DETECTED_GPU = "detected"
"""The choice of `gpu` whose figures the driver tells."""

_IF_KNOWN = "must be above 0, or null where it is not known"
_SHARE = "must be above 0 (a share: 0.05 is 5 %)"
_SIZE = "must be from 1 MiB (1048576) to 1 PiB (2**50) [bytes]"
_TIMEOUT = "must be above 0 [s] and at most 86400 (a day)"


def _is_timeout(value: float) -> bool:
    return 0 < value <= LONGEST_TIMEOUT_S


def _is_size(value: int) -> bool:
    return 2**20 <= value <= 2**50


@dataclass(kw_only=True)
class ModelConfig(Ranged, prefix="model."):
    name: str = "???"
    id: str | None = None
    revision: str = "main"
    weights: Weights = Weights.hub
    path: str | None = None
    variant: Variant | None = Variant.instruct
    dtype: Dtype = Dtype.auto
    cpu_threads: int | None = at_least(1, None, "must be at least 1, or null for all cores")
    random_seed: int = 0
    quantized: dict[str, str] = field(default_factory=dict)
    architecture: dict[str, Any] = field(default_factory=dict)
    license: str | None = None
    gated: bool = False
    adapter: str | None = None
    merge_adapter: bool = True


@dataclass(kw_only=True)
class CalibrationConfig(Ranged, prefix="quant.calibration."):
    samples: int = at_least(1, 128)
    seed: int = 0
    path: str | None = None


@dataclass(kw_only=True)
class QuantConfig(Ranged, prefix="quant."):
    name: str = "???"
    method: Method = Method["none"]
    bits: int | None = None
    group_size: int | None = None
    sym: bool = True
    desc_act: bool = False
    kernel: str = "auto"
    source: QuantSource = QuantSource.auto
    cache_dir: str | None = None
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)

    def _check(self) -> None:
        facts, method = METHODS[self.method.name], self.method.name
        if not facts.bits:
            self._require(
                self.bits is None,
                "bits",
                f"quant={method} has no bits; leave it null, or choose another quant",
            )
            return
        choices = " or ".join(map(str, facts.bits))
        self._require(self.bits in facts.bits, "bits", f"{method} takes {choices}")
        own = (facts.group_sizes or {}).get(self.bits or 0)
        self._require(
            own is None or self.group_size == own,
            "group_size",
            f"{method} with {self.bits} bits has groups of its own; use {own}",
        )
        self._require(
            own is not None or self.group_size in (None, -1, 32, 64, 128),
            "group_size",
            "choose one of null (the largest that divides every layer), -1 (whole row), 32, 64, "
            "128",
        )
        self._require(
            facts.packed or self.source is not QuantSource.hub,
            "source",
            f"{method} quantizes unquantized weights while they are loaded, and nothing "
            "is published; use auto",
        )


@dataclass(kw_only=True)
class BatchConfig(Ranged, prefix="batch."):
    size: int = at_least(1, 1, "prompts decoded together; must be at least 1")
    order: BatchOrder = BatchOrder.suite
    arrival_rate_per_s: float | None = ranged(
        None,
        lambda value: 0 < value < math.inf,
        "must be above 0 and finite [requests/s], or null for a closed loop",
    )
    on_out_of_memory: OnOutOfMemory = OnOutOfMemory.halve


@dataclass(kw_only=True)
class GenerationConfig(Ranged, prefix="generation."):
    name: str = "???"
    do_sample: bool = False
    temperature: float | None = None
    top_p: float | None = ranged(None, lambda value: 0 < value <= 1, "must lie in (0, 1]")
    n_samples: int = at_least(1, 1)
    seed: int = 0
    rounds: int = at_least(1, 1, "must be at least 1, which repairs nothing")
    max_new_tokens: int | None = at_least(
        1, None, "must be at least 1, or null for the suite's own limit"
    )
    stop: Stop = Stop.benchmark
    thinking: Thinking = Thinking.off
    thinking_tokens: int | None = at_least(
        1, None, "the budget of generation.thinking=budget; must be at least 1, or null"
    )

    def _check(self) -> None:
        limited = self.thinking is Thinking.budget
        self._require(
            limited == (self.thinking_tokens is not None),
            "thinking_tokens",
            "generation.thinking=budget needs a number of tokens"
            if limited
            else f"generation.thinking={self.thinking.name} has no budget; leave it null, or "
            "choose generation.thinking=budget",
        )
        if self.do_sample:
            self._require(
                self.temperature is not None and self.temperature > 0,
                "temperature",
                "sampling needs a temperature above 0; use generation=greedy for greedy decoding",
            )
            return
        for key in ("temperature", "top_p"):
            self._require(
                getattr(self, key) is None,
                key,
                "greedy decoding does not use it; choose generation=sample, or leave it null",
            )
        self._require(
            self.n_samples == 1,
            "n_samples",
            "greedy decoding gives the same text every time; choose generation=sample",
        )


_CHOICES = {each.name: each.metadata.get("choices", ()) for each in fields(EngineKeys)}


@dataclass(kw_only=True)
class EngineConfig(EngineKeys, Ranged, prefix="engine."):
    warmup_batches: int = at_least(0, 1, "must be 0 or more")
    warmup_tokens: int = at_least(1, 16)

    def _check(self) -> None:
        for key in OWN_KEYS:
            value = getattr(self, key)
            engines = engines_with(key)
            self._require(
                value is None or self.name in engines,
                key,
                f"engine={self.name.name} does not use it; leave it null, or choose "
                + " or ".join(f"engine={engine.name}" for engine in engines),
            )
            choices = _CHOICES[key]
            self._require(
                value is None or not choices or value in choices,
                key,
                f"choose one of {', '.join(choices)}",
            )
            number = isinstance(value, int | float) and not isinstance(value, bool)
            self._require(not number or 0 < value < math.inf, key, "must be above 0 and finite")
        for key, what in self.facts.needs.items():
            self._require(bool(getattr(self, key)), key, f"engine={self.name.name} needs {what}")

    @property
    def cache_dtype(self) -> str | None:
        """Dtype of keys and values; None for the model's."""
        return None if self.kv_dtype == "auto" else self.kv_dtype

    @property
    def facts(self) -> EngineFacts:
        """What the chosen engine is."""
        return ENGINES[self.name]


@dataclass(kw_only=True)
class SuiteConfig(Ranged, prefix="suite."):
    name: str = "???"
    split: Split = Split.complete
    limit: int | None = at_least(
        1, None, "a run needs at least 1 task; use null for the whole suite"
    )
    shuffle: int | None = None
    extends: int | None = at_least(
        1, None, "the suite.limit of an earlier run; must be at least 1, or null"
    )
    task_ids: list[str] | None = ranged(
        None,
        lambda ids: len(ids) > 0,
        "an empty list selects nothing; use null for the whole suite",
    )
    path: str | None = None
    hub_id: str | None = None
    hub_revision: str = "main"
    hub_split: str | None = None
    hub_file: str | None = None
    tasks: int | None = at_least(1, None)
    shown_tests: int | None = at_least(
        1, None, "the number of tests of each task that a model may be shown; null shows none"
    )
    format: str = "bigcodebench"
    max_new_tokens: int | None = at_least(
        1, None, "must be at least 1, or null for the schema's own limit"
    )
    prompt_tokens: int = at_least(1, 660)
    answer_tokens: int | None = at_least(
        1, None, "must be at least 1 [tokens], or null for the limit on new tokens"
    )
    timeout_s: float | None = ranged(
        None, _is_timeout, f"{_TIMEOUT}, or null for the schema's own limit"
    )
    stop: list[str] | None = None
    stop_base: list[str] | None = None

    def __post_init__(self) -> None:
        # Settled here, so that what is in force is what everyone sees and a run records.
        limits = self.limits
        self.max_new_tokens, self.timeout_s = limits.max_new_tokens, limits.timeout_s
        self.stop, self.stop_base = list(limits.stop), list(limits.stop_base)
        super().__post_init__()

    def _check(self) -> None:
        self._require(
            self.extends is None or self.limit is None or self.extends < self.limit,
            "extends",
            f"a run with suite.limit={self.limit} can take over fewer tasks alone; leave it null",
        )

    @property
    def limits(self) -> SuiteLimits:
        """The limits that are set, and for the others those of the bundled suite or the schema."""
        own = self.path is None and self.hub_id is None
        implied = limits_of(self.format, bundled=self.name if own else None)
        given: dict[str, Any] = {
            limit.name: tuple(value) if isinstance(value, list) else value
            for limit in fields(SuiteLimits)
            if (value := getattr(self, limit.name)) is not None
        }
        return replace(implied, **given)


@dataclass(kw_only=True)
class GpuConfig(Ranged, prefix="gpu."):
    name: str = "???"
    driver_names: list[str] = field(default_factory=list)
    memory_bytes: int | None = above(0, None, _IF_KNOWN)
    bandwidth_bytes_per_s: float | None = above(0, None, _IF_KNOWN)
    peak_float16_flop_per_s: float | None = above(0, None, _IF_KNOWN)
    peak_bfloat16_flop_per_s: float | None = above(0, None, _IF_KNOWN)
    peak_int8_op_per_s: float | None = above(0, None, _IF_KNOWN)
    power_limit_w: float | None = above(0, None, _IF_KNOWN)
    idle_power_w: float | None = above(0, None, _IF_KNOWN)

    def _check(self) -> None:
        for key in ("memory_bytes", "bandwidth_bytes_per_s"):
            self._require(
                self.name == DETECTED_GPU or getattr(self, key) is not None,
                key,
                f"only gpu={DETECTED_GPU} leaves it to the driver",
            )


@dataclass(kw_only=True)
class MeterConfig(Ranged, prefix="meter."):
    name: MeterName = MeterName.auto
    scope: MeterScope = MeterScope["auto"]
    cpu_watts_per_core: float = above(0, 3.5, "must be above 0 [W]")
    sample_period_s: float = at_least(
        0.01,
        0.1,
        "must be at least 0.01 [s]: faster polling costs energy and shows nothing new",
    )
    idle_s: float = at_least(0, 10.0, "must be 0 (off) or more [s]")
    idle_tolerance: float = above(0, 0.02, _SHARE)
    crosscheck_threshold: float = above(0, 0.05, _SHARE)
    cooldown_s: float = ranged(
        0.0, lambda value: value == 0 or value >= 1, "must be 0 (off) or at least 1 [s]"
    )
    cooldown_temperature_c: float | None = None
    on_busy_gpu: OnBusyGpu = OnBusyGpu.error
    on_metered_device: OnMeteredDevice = OnMeteredDevice.wait
    recording: str | None = None

    def _check(self) -> None:
        self._require(
            self.cooldown_temperature_c is None or self.cooldown_s > 0,
            "cooldown_temperature_c",
            "meter.cooldown_s=0 turns cool-downs off; say how long to wait for it at most",
        )
        counters = self.name in (MeterName.auto, MeterName.zeus)
        self._require(
            counters or self.scope is MeterScope["auto"],
            "scope",
            f"meter={self.name.name} reads no counter of a CPU; choose meter=auto or meter=zeus",
        )
        self._require(
            counters or self.cooldown_s == 0,
            "cooldown_s",
            f"meter={self.name.name} watches no GPU of this run; use 0",
        )


@dataclass(kw_only=True)
class EvaluatorConfig(Ranged, prefix="evaluator."):
    name: EvaluatorName = EvaluatorName.sandbox
    timeout_s: float | None = ranged(
        None, _is_timeout, f"{_TIMEOUT}, or null for the suite's own limit"
    )
    workers: int | None = at_least(1, None, "must be at least 1, or null for one per core")
    memory_bytes: int = ranged(30 * 2**30, _is_size, _SIZE)
    tmp_bytes: int = ranged(256 * 2**20, _is_size, _SIZE)
    output_bytes: int = ranged(64 * 2**20, _is_size, _SIZE)
    python: str | None = None
    isolation: EvaluatorIsolation = EvaluatorIsolation.sandbox
    ground_truth: bool | None = None
    spread: EvaluatorSpread = EvaluatorSpread.here
    address: str | None = None
    shard_samples: int = at_least(1, 64)

    def _check(self) -> None:
        self._require(
            self.name is not EvaluatorName.none or not self.ground_truth,
            "ground_truth",
            "evaluator=none judges nothing; choose evaluator=sandbox, or leave it null",
        )


@dataclass(kw_only=True)
class TrackingConfig(Ranged, prefix="tracking."):
    name: TrackingName = TrackingName.local
    experiment: str = ranged("codejoule", bool, "must not be empty")
    dir: str | None = None
    uri: str | None = None
    traces: int = at_least(0, 200, "must be 0 (off) or more")
    lease_s: float = at_least(1, 60.0, "must be at least 1 [s]")

    @property
    def folder(self) -> Path:
        return Path(self.dir).expanduser() if self.dir else home() / "mlruns"

    def _check(self) -> None:
        if self.name is TrackingName.server:
            self._require(
                bool(self.uri),
                "uri",
                "tracking=server needs the server's address: set MLFLOW_TRACKING_URI or tracking.uri=http://...",
            )


@dataclass(kw_only=True)
class SweepConfig:
    order: Order = Order.given
    seed: int = 0
    objectives: list[str] = field(default_factory=lambda: ["energy_per_task_j", "pass_at_1"])


@dataclass(kw_only=True)
class CarbonConfig(Ranged, prefix="carbon."):
    grid_g_per_kwh: float = at_least(0, 473.0, "must be 0 or more [g CO2e per kWh]")
    pue: float = at_least(
        1,
        1.56,
        "power usage effectiveness is total over IT energy; must be at least 1",
    )


@dataclass(kw_only=True)
class CostConfig(Ranged, prefix="cost."):
    per_kwh: float | None = at_least(0, None, "must be 0 or more [your currency per kWh], or null")


@dataclass(kw_only=True)
class FinetuneConfig(Ranged, prefix="finetune."):
    data: str | None = None
    epochs: int = at_least(1, 3)
    steps: int | None = at_least(
        1, None, "must be at least 1, or null for as many as finetune.epochs takes"
    )
    batch: int = at_least(1, 8)
    max_length: int = at_least(8, 1024, "must be at least 8 [tokens]")
    rank: int = at_least(1, 16)
    alpha: float = above(0, 32.0, "must be above 0")
    learning_rate: float = above(0, 2e-4, "must be above 0")
    target_modules: list[str] | None = ranged(
        None,
        lambda names: len(names) > 0,
        "an empty list adapts nothing; use null for every linear layer of the decoder",
    )
    gradient_checkpointing: bool = False
    seed: int = 0


@dataclass(kw_only=True)
class ExperimentConfig(Ranged):
    """One run, whole: what `codejoule.experiment` builds everything from."""

    model: ModelConfig = field(default_factory=ModelConfig)
    quant: QuantConfig = field(default_factory=QuantConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    suite: SuiteConfig = field(default_factory=SuiteConfig)
    gpu: GpuConfig = field(default_factory=lambda: GpuConfig(name=DETECTED_GPU))
    meter: MeterConfig = field(default_factory=MeterConfig)
    evaluator: EvaluatorConfig = field(default_factory=EvaluatorConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    carbon: CarbonConfig = field(default_factory=CarbonConfig)
    cost: CostConfig = field(default_factory=CostConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    device: Device = Device.auto
    gpus: int | None = at_least(1, None, "must be at least 1, or null for as few as hold the model")
    preflight: Preflight = Preflight.fail
    isolation: Isolation = Isolation.auto
    on_finished: OnFinished = OnFinished.skip
    on_other_gpu: OnOtherGpu = OnOtherGpu.fail
    stage: Stage = Stage.all
    repeat: int = at_least(1, 1)
    progress: ProgressMode = ProgressMode.auto

    def _check(self) -> None:
        self._require(
            self.gpus is None or self.device is not Device.cpu,
            "gpus",
            "device=cpu uses none; leave it null",
        )
        self._require(
            self.stage in (Stage.all, Stage.finetune)
            or self.evaluator.name is not EvaluatorName.none,
            "stage",
            "evaluator=none judges nothing, so that there is one stage; use all, or choose "
            "evaluator=sandbox",
        )
        self._require(
            self.suite.split is Split.complete or self.model.variant is not Variant.base,
            "suite.split",
            f"model={self.model.name} is a base model, which continues text and follows no "
            "instructions; choose suite.split=complete or an instruct model",
        )
        self._require(
            self.generation.stop is Stop.benchmark or self.model.weights is not Weights.random,
            "generation.stop",
            "model.weights=random writes no programs, and each of its sequences has exactly "
            "max_new_tokens tokens; choose generation.stop=benchmark, or real weights",
        )
        if self.generation.thinking is not Thinking.off:
            self._check_thinking(self.generation.thinking.name)
        if self.model.adapter is not None:
            self._check_adapter()
        if self.stage is Stage.finetune:
            self._check_finetune()
        if self.generation.rounds > 1:
            self._check_rounds(self.generation.rounds)
        spread = self.engine.tensor_parallel or 1
        if spread > 1:
            self._require(
                self.gpus in (None, spread),
                "gpus",
                f"engine.tensor_parallel={spread} takes as many GPUs; leave it null",
            )
            self.gpus = spread
        self._check_quantization()
        open_loops = [name.name for name, facts in ENGINES.items() if facts.arrivals]
        self._require(
            self.batch.arrival_rate_per_s is None or self.engine.facts.arrivals,
            "batch.arrival_rate_per_s",
            f"engine={self.engine.name.name} is given all requests at once; leave it null, or "
            f"choose {' or '.join(f'engine={name}' for name in open_loops)}",
        )
        own_file = self.suite.path is not None and self.suite.hub_id is None
        self._require(
            not (own_file and self.suite.name in BUNDLED_SUITES),
            "suite.path",
            f"its tasks are not {self.suite.name}'s, and would be recorded as if they were; name "
            "them: suite.name=...",
        )

    def _check_rounds(self, rounds: int) -> None:
        """Whether programs can be judged between rounds."""
        self._require(
            self.suite.shown_tests is not None,
            "suite.shown_tests",
            f"generation.rounds={rounds} gives the output of shown tests back to the model, and "
            "none is shown; choose suite.shown_tests=1, or more",
        )
        self._require(
            self.evaluator.name is not EvaluatorName.none,
            "evaluator.name",
            f"generation.rounds={rounds} judges each round before the next, and evaluator=none "
            "judges nothing; choose evaluator=sandbox",
        )
        self._require(
            self.stage is Stage.all,
            "stage",
            f"generation.rounds={rounds} judges each round before the next, where it is generated; "
            "choose stage=all",
        )
        self._require(
            self.suite.extends is None,
            "suite.extends",
            f"generation.rounds={rounds} decides anew which programs are repaired, so that nothing "
            "of an earlier run can be taken over; leave it null",
        )

    def _check_thinking(self, asked: str) -> None:
        """Whether this model can think with this engine, and has room for an answer."""
        others = [name.name for name, facts in ENGINES.items() if asked in facts.thinking]
        self._require(
            asked in self.engine.facts.thinking,
            "generation.thinking",
            f"engine={self.engine.name.name} cannot do that; choose "
            + " or ".join(f"engine={name}" for name in others)
            + ", or generation.thinking=off",
        )
        self._require(
            self.model.variant is not Variant.base,
            "generation.thinking",
            f"model={self.model.name} is a base model, which continues text; choose "
            "generation.thinking=off or an instruct model",
        )
        self._require(
            self.model.weights is not Weights.random,
            "generation.thinking",
            "model.weights=random thinks nothing, and each of its sequences has exactly "
            "max_new_tokens tokens; choose generation.thinking=off, or real weights",
        )
        self._require(
            self.generation.stop is Stop.benchmark,
            "generation.thinking",
            "generation.stop=complete reads an answer that was begun as a program, and a model "
            "that thinks begins its answer itself; choose generation.stop=benchmark",
        )
        budget, limit = self.generation.thinking_tokens, self.generation.max_new_tokens
        limit = limit or self.suite.limits.max_new_tokens
        self._require(
            budget is None or budget < limit,
            "generation.thinking_tokens",
            f"the limit on new tokens, {limit}, leaves no room for an answer; raise "
            "generation.max_new_tokens",
        )

    def _check_adapter(self) -> None:
        """Whether an adapter can be had with this model, quantization and engine."""
        if self.model.merge_adapter:
            self._require(
                self.model.weights is not Weights.random,
                "model.merge_adapter",
                "random weights lie in no folder that an adapter could be merged into, and merged "
                "they would take the energy of the model without it; use model.merge_adapter=false",
            )
            self._require(
                not self.engine.facts.runs_already,
                "model.adapter",
                f"engine={self.engine.name.name} is given its model by somebody else; serve the "
                "tuned model, name it with model.name, and leave model.adapter null",
            )
            return
        self._require(
            self.quant.bits is None,
            "model.merge_adapter",
            "an adapter is not run beside quantized weights; with model.merge_adapter=true it is "
            "merged into the unquantized ones, which are then quantized here",
        )
        others = [name.name for name, facts in ENGINES.items() if facts.adapters]
        self._require(
            self.engine.facts.adapters,
            "model.merge_adapter",
            f"engine={self.engine.name.name} runs no adapter beside the model; use "
            "model.merge_adapter=true, or choose "
            + " or ".join(f"engine={name}" for name in others),
        )

    def _check_finetune(self) -> None:
        """Whether this model can be trained here."""
        self._require(
            self.quant.bits is None,
            "quant.name",
            "stage=finetune trains beside unquantized weights; use quant=none. The tuned model can "
            "be quantized: merged (model.adapter), it is quantized here",
        )
        self._require(
            self.model.adapter is None,
            "model.adapter",
            "stage=finetune trains a new adapter, of a model without one; leave it null",
        )
        self._require(
            self.engine.name.name == "generate",
            "engine.name",
            "stage=finetune generates nothing and needs no engine; leave engine=generate",
        )

    def _check_quantization(self) -> None:
        """Whether the engine runs the method at all, and of this model where that is on file."""
        method, engine = self.quant.method.name, self.engine.name.name
        # Experts that nobody quantizes are refused with the model.
        experts = (
            self.quant.bits is not None
            and routed_experts(self.model.architecture) > 0
            and bool(METHODS[method].experts)
        )
        there = methods_of(self.engine.facts, experts=experts)
        others, instead = engines_for(method, experts=experts), METHODS[method].instead
        of = " of a mixture of experts" if experts else ""
        self._require(
            method in there,
            "engine.name",
            f"engine={engine} has no {method}{of}; choose a quant of {', '.join(there)}, or "
            + " or ".join(f"engine={name}" for name in others)
            + (instead and f"; {instead}"),
        )
