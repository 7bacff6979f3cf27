"""The typed form of ``conf/``: what each key is, its unit and its choices.

Hydra and OmegaConf need these dataclasses mutable (frozen ones break composition in 1.3.8
/ 2.3.1); `OmegaConf.to_object` runs ``__post_init__``, where every check lives.
"""

import math
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any

from codejoule.config.errors import ConfigError
from codejoule.domain.quantization import METHODS
from codejoule.domain.suite_limits import LIMITS_OF_BUNDLED, SuiteLimits, limits_of


class Weights(Enum):
    hub = "hub"
    local = "local"
    random = "random"
    bundled = "bundled"


class Variant(Enum):
    base = "base"
    instruct = "instruct"


class Dtype(Enum):
    auto = "auto"
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


Method = Enum("Method", {name: name for name in METHODS})  # type: ignore[misc]
"""How weights are quantized; what is known of each is in `codejoule.domain.quantization`."""


class QuantSource(Enum):
    auto = "auto"
    hub = "hub"
    local = "local"


class EngineName(Enum):
    generate = "generate"
    static = "static"
    graph = "graph"
    continuous = "continuous"
    server = "server"


class BatchOrder(Enum):
    suite = "suite"
    length = "length"


class Stop(Enum):
    benchmark = "benchmark"
    complete = "complete"


class Split(Enum):
    complete = "complete"
    instruct = "instruct"


class MeterName(Enum):
    auto = "auto"
    zeus = "zeus"
    cpu_estimate = "cpu_estimate"
    replay = "replay"


MeterScope = Enum("MeterScope", {"auto": "auto", "gpu+cpu": "gpu+cpu"})
"""By a call, since OmegaConf knows a choice by its name, and this one is no identifier."""


class OnBusyGpu(Enum):
    error = "error"
    warn = "warn"


class OnMeteredDevice(Enum):
    wait = "wait"
    error = "error"


class EvaluatorName(Enum):
    sandbox = "sandbox"
    none = "none"


class EvaluatorIsolation(Enum):
    sandbox = "sandbox"
    process = "process"


class TrackingName(Enum):
    local = "local"
    server = "server"


class Device(Enum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Isolation(Enum):
    auto = "auto"
    process = "process"
    inline = "inline"


class OnFinished(Enum):
    skip = "skip"
    rerun = "rerun"


class OnOutOfMemory(Enum):
    halve = "halve"
    fail = "fail"


class Preflight(Enum):
    fail = "fail"
    warn = "warn"


class Order(Enum):
    given = "given"
    shuffled = "shuffled"


BUNDLED_SUITES = tuple(LIMITS_OF_BUNDLED)
"""Suites whose tasks ship with codejoule."""

LONGEST_TIMEOUT_S = 86400.0
"""What waiting takes: the kernel's clocks know neither infinity nor much more than days."""

DETECTED_GPU = "detected"
"""The choice of `gpu` whose figures the driver tells."""


def _require(ok: bool, key: str, value: object, need: str) -> None:
    if not ok:
        raise ConfigError(f"{key}={'null' if value is None else value}: {need}")


@dataclass(kw_only=True)
class ModelConfig:
    name: str = "???"
    id: str | None = None
    revision: str = "main"
    weights: Weights = Weights.hub
    path: str | None = None
    variant: Variant | None = Variant.instruct
    dtype: Dtype = Dtype.auto
    cpu_threads: int | None = None
    random_seed: int = 0
    quantized: dict[str, str] = field(default_factory=dict)
    architecture: dict[str, Any] = field(default_factory=dict)
    license: str | None = None
    gated: bool = False

    def __post_init__(self) -> None:
        _require(
            self.cpu_threads is None or self.cpu_threads >= 1,
            "model.cpu_threads",
            self.cpu_threads,
            "must be at least 1, or null for all cores",
        )


@dataclass(kw_only=True)
class CalibrationConfig:
    samples: int = 128
    seed: int = 0
    path: str | None = None

    def __post_init__(self) -> None:
        _require(self.samples >= 1, "quant.calibration.samples", self.samples, "must be at least 1")


@dataclass(kw_only=True)
class QuantConfig:
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

    def __post_init__(self) -> None:
        facts, method = METHODS[self.method.name], self.method.name
        if not facts.bits:
            _require(
                self.bits is None,
                "quant.bits",
                self.bits,
                f"quant={method} has no bits; leave it null",
            )
            return
        _require(
            self.bits in facts.bits,
            "quant.bits",
            self.bits,
            f"{method} takes {' or '.join(map(str, facts.bits))}",
        )
        own = (facts.group_sizes or {}).get(self.bits or 0)
        _require(
            own is None or self.group_size == own,
            "quant.group_size",
            self.group_size,
            f"{method} with {self.bits} bits has groups of its own; use {own}",
        )
        _require(
            own is not None or self.group_size in (None, -1, 32, 64, 128),
            "quant.group_size",
            self.group_size,
            "choose one of null (the largest that divides every layer), -1 (whole row), 32, 64, "
            "128",
        )
        _require(
            facts.packed or self.source is not QuantSource.hub,
            "quant.source",
            self.source.name,
            f"{method} quantizes unquantized weights while they are loaded, and nothing "
            "is published; use auto",
        )


@dataclass(kw_only=True)
class BatchConfig:
    size: int = 1
    order: BatchOrder = BatchOrder.suite
    on_out_of_memory: OnOutOfMemory = OnOutOfMemory.halve

    def __post_init__(self) -> None:
        _require(
            self.size >= 1, "batch.size", self.size, "prompts decoded together; must be at least 1"
        )


@dataclass(kw_only=True)
class GenerationConfig:
    name: str = "???"
    do_sample: bool = False
    temperature: float | None = None
    top_p: float | None = None
    n_samples: int = 1
    seed: int = 0
    max_new_tokens: int | None = None
    stop: Stop = Stop.benchmark

    def __post_init__(self) -> None:
        _require(self.n_samples >= 1, "generation.n_samples", self.n_samples, "must be at least 1")
        _require(
            self.max_new_tokens is None or self.max_new_tokens >= 1,
            "generation.max_new_tokens",
            self.max_new_tokens,
            "must be at least 1, or null for the suite's own limit",
        )
        if self.do_sample:
            _require(
                self.temperature is not None and self.temperature > 0,
                "generation.temperature",
                self.temperature,
                "sampling needs a temperature above 0; use generation=greedy for greedy decoding",
            )
            _require(
                self.top_p is None or 0 < self.top_p <= 1,
                "generation.top_p",
                self.top_p,
                "must lie in (0, 1]",
            )
            return
        for key in ("temperature", "top_p"):
            _require(
                getattr(self, key) is None,
                f"generation.{key}",
                getattr(self, key),
                "greedy decoding does not use it; choose generation=sample, or leave it null",
            )
        _require(
            self.n_samples == 1,
            "generation.n_samples",
            self.n_samples,
            "greedy decoding gives the same text every time; choose generation=sample",
        )


REFILLING = (EngineName.graph, EngineName.continuous, EngineName.server)
"""Engines in which a waiting prompt takes the place of a sequence that has ended."""

_KEYS_OF_ENGINES = {
    "window_tasks": REFILLING,
    "compile": (EngineName.graph,),
    "check_every": (EngineName.graph,),
    "url": (EngineName.server,),
    "served_model": (EngineName.server,),
    "timeout_s": (EngineName.server,),
}


@dataclass(kw_only=True)
class EngineConfig:
    name: EngineName = EngineName.generate
    warmup_batches: int = 1
    warmup_tokens: int = 16
    window_tasks: int | None = None
    compile: bool | None = None
    check_every: int | None = None
    url: str | None = None
    served_model: str | None = None
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        _require(
            self.warmup_batches >= 0,
            "engine.warmup_batches",
            self.warmup_batches,
            "must be 0 or more",
        )
        _require(
            self.warmup_tokens >= 1,
            "engine.warmup_tokens",
            self.warmup_tokens,
            "must be at least 1",
        )
        for key, engines in _KEYS_OF_ENGINES.items():
            value = getattr(self, key)
            _require(
                value is None or self.name in engines,
                f"engine.{key}",
                value,
                f"engine={self.name.name} does not use it; leave it null, or choose "
                + " or ".join(f"engine={engine.name}" for engine in engines),
            )
            _require(
                key in ("url", "served_model")
                or value is None
                or value is False
                or 0 < value < math.inf,
                f"engine.{key}",
                value,
                "must be above 0 and finite",
            )
        _require(
            self.name is not EngineName.server or bool(self.url),
            "engine.url",
            self.url,
            "engine=server needs the address of an OpenAI-compatible server on this host, e.g. "
            "engine.url=http://127.0.0.1:8000/v1",
        )

    @property
    def refills(self) -> bool:
        """Whether a waiting prompt takes the place of a sequence that has ended."""
        return self.name in REFILLING


@dataclass(kw_only=True)
class SuiteConfig:
    name: str = "???"
    split: Split = Split.complete
    limit: int | None = None
    task_ids: list[str] | None = None
    path: str | None = None
    hub_id: str | None = None
    hub_revision: str = "main"
    hub_split: str | None = None
    hub_file: str | None = None
    format: str = "bigcodebench"
    max_new_tokens: int | None = None
    prompt_tokens: int = 660
    timeout_s: float | None = None
    stop: list[str] | None = None
    stop_base: list[str] | None = None

    def __post_init__(self) -> None:
        # Settled here, so that what is in force is what everyone sees and a run records.
        limits = self.limits
        self.max_new_tokens, self.timeout_s = limits.max_new_tokens, limits.timeout_s
        self.stop, self.stop_base = list(limits.stop), list(limits.stop_base)
        _require(
            self.limit is None or self.limit >= 1,
            "suite.limit",
            self.limit,
            "a run needs at least 1 task; use null for the whole suite",
        )
        _require(
            self.task_ids is None or len(self.task_ids) > 0,
            "suite.task_ids",
            self.task_ids,
            "an empty list selects nothing; use null for the whole suite",
        )
        _require(
            limits.max_new_tokens >= 1,
            "suite.max_new_tokens",
            self.max_new_tokens,
            "must be at least 1, or null for the schema's own limit",
        )
        _require(
            self.prompt_tokens >= 1,
            "suite.prompt_tokens",
            self.prompt_tokens,
            "must be at least 1",
        )
        _require(
            0 < limits.timeout_s <= LONGEST_TIMEOUT_S,
            "suite.timeout_s",
            self.timeout_s,
            "must be above 0 [s] and at most 86400 (a day), or null for the schema's own limit",
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
class GpuConfig:
    name: str = "???"
    driver_names: list[str] = field(default_factory=list)
    memory_bytes: int | None = None
    bandwidth_bytes_per_s: float | None = None
    peak_float16_flop_per_s: float | None = None
    peak_bfloat16_flop_per_s: float | None = None
    peak_int8_op_per_s: float | None = None
    power_limit_w: float | None = None
    idle_power_w: float | None = None

    def __post_init__(self) -> None:
        for key in self.__dataclass_fields__:
            value = getattr(self, key)
            _require(
                key in ("name", "driver_names") or value is None or value > 0,
                f"gpu.{key}",
                value,
                "must be above 0, or null where it is not known",
            )
        for key in ("memory_bytes", "bandwidth_bytes_per_s"):
            _require(
                self.name == DETECTED_GPU or getattr(self, key) is not None,
                f"gpu.{key}",
                getattr(self, key),
                f"only gpu={DETECTED_GPU} leaves it to the driver",
            )


@dataclass(kw_only=True)
class MeterConfig:
    name: MeterName = MeterName.auto
    scope: MeterScope = MeterScope["auto"]
    cpu_watts_per_core: float = 3.5
    sample_period_s: float = 0.1
    idle_s: float = 10.0
    idle_tolerance: float = 0.02
    crosscheck_threshold: float = 0.05
    cooldown_s: float = 0.0
    cooldown_temperature_c: float | None = None
    on_busy_gpu: OnBusyGpu = OnBusyGpu.error
    on_metered_device: OnMeteredDevice = OnMeteredDevice.wait
    recording: str | None = None

    def __post_init__(self) -> None:
        _require(
            self.name is not MeterName.replay or bool(self.recording),
            "meter.recording",
            self.recording,
            "meter=replay needs the file of a recording, e.g. "
            "meter.recording=tests/golden/h200_ledger.npz",
        )
        for key in ("idle_tolerance", "crosscheck_threshold"):
            _require(
                getattr(self, key) > 0,
                f"meter.{key}",
                getattr(self, key),
                "must be above 0 (a share: 0.05 is 5 %)",
            )
        _require(
            self.cpu_watts_per_core > 0,
            "meter.cpu_watts_per_core",
            self.cpu_watts_per_core,
            "must be above 0 [W]",
        )
        _require(
            self.sample_period_s >= 0.01,
            "meter.sample_period_s",
            self.sample_period_s,
            "must be at least 0.01 [s]: faster polling costs energy and shows nothing new",
        )
        _require(self.idle_s >= 0, "meter.idle_s", self.idle_s, "must be 0 (off) or more [s]")
        _require(
            self.cooldown_s == 0 or self.cooldown_s >= 1,
            "meter.cooldown_s",
            self.cooldown_s,
            "must be 0 (off) or at least 1 [s]",
        )
        _require(
            self.cooldown_temperature_c is None or self.cooldown_s > 0,
            "meter.cooldown_temperature_c",
            self.cooldown_temperature_c,
            "meter.cooldown_s=0 turns cool-downs off; say how long to wait for it at most",
        )
        counters = self.name in (MeterName.auto, MeterName.zeus)
        _require(
            counters or self.scope is MeterScope["auto"],
            "meter.scope",
            self.scope.value,
            f"meter={self.name.name} reads no counter of a CPU; choose meter=auto or meter=zeus",
        )
        _require(
            counters or self.cooldown_s == 0,
            "meter.cooldown_s",
            self.cooldown_s,
            f"meter={self.name.name} watches no GPU of this run; use 0",
        )


@dataclass(kw_only=True)
class EvaluatorConfig:
    name: EvaluatorName = EvaluatorName.sandbox
    timeout_s: float | None = None
    workers: int | None = None
    memory_bytes: int = 30 * 2**30
    tmp_bytes: int = 256 * 2**20
    output_bytes: int = 64 * 2**20
    python: str | None = None
    isolation: EvaluatorIsolation = EvaluatorIsolation.sandbox
    challenge: bool = False
    ground_truth: bool | None = None

    def __post_init__(self) -> None:
        _require(
            self.name is not EvaluatorName.none or not self.ground_truth,
            "evaluator.ground_truth",
            self.ground_truth,
            "evaluator=none judges nothing; choose evaluator=sandbox, or leave it null",
        )
        _require(
            self.timeout_s is None or 0 < self.timeout_s <= LONGEST_TIMEOUT_S,
            "evaluator.timeout_s",
            self.timeout_s,
            "must be above 0 [s] and at most 86400 (a day), or null for the suite's own limit",
        )
        _require(
            self.workers is None or self.workers >= 1,
            "evaluator.workers",
            self.workers,
            "must be at least 1, or null for one per core",
        )
        for key in ("memory_bytes", "tmp_bytes", "output_bytes"):
            value = getattr(self, key)
            _require(
                2**20 <= value <= 2**50,
                f"evaluator.{key}",
                value,
                "must be from 1 MiB (1048576) to 1 PiB (2**50) [bytes]",
            )


@dataclass(kw_only=True)
class TrackingConfig:
    name: TrackingName = TrackingName.local
    experiment: str = "codejoule"
    dir: str | None = None
    uri: str | None = None

    def __post_init__(self) -> None:
        _require(bool(self.experiment), "tracking.experiment", "", "must not be empty")
        if self.name is TrackingName.server:
            _require(
                bool(self.uri),
                "tracking.uri",
                self.uri,
                "tracking=server needs the server's address: set MLFLOW_TRACKING_URI or tracking.uri=http://...",
            )


@dataclass(kw_only=True)
class SweepConfig:
    order: Order = Order.given
    seed: int = 0


@dataclass(kw_only=True)
class CarbonConfig:
    grid_g_per_kwh: float = 473.0
    pue: float = 1.56

    def __post_init__(self) -> None:
        _require(
            self.grid_g_per_kwh >= 0,
            "carbon.grid_g_per_kwh",
            self.grid_g_per_kwh,
            "must be 0 or more [g CO2e per kWh]",
        )
        _require(
            self.pue >= 1,
            "carbon.pue",
            self.pue,
            "power usage effectiveness is total over IT energy; must be at least 1",
        )


@dataclass(kw_only=True)
class CostConfig:
    per_kwh: float | None = None

    def __post_init__(self) -> None:
        _require(
            self.per_kwh is None or self.per_kwh >= 0,
            "cost.per_kwh",
            self.per_kwh,
            "must be 0 or more [your currency per kWh], or null",
        )


@dataclass(kw_only=True)
class ExperimentConfig:
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
    device: Device = Device.auto
    gpus: int | None = None
    preflight: Preflight = Preflight.fail
    isolation: Isolation = Isolation.auto
    on_finished: OnFinished = OnFinished.skip
    repeat: int = 1

    def __post_init__(self) -> None:
        _require(self.repeat >= 1, "repeat", self.repeat, "must be at least 1")
        _require(
            self.gpus is None or self.gpus >= 1,
            "gpus",
            self.gpus,
            "must be at least 1, or null for as few as hold the model",
        )
        _require(
            self.gpus is None or self.device is not Device.cpu,
            "gpus",
            self.gpus,
            "device=cpu uses none; leave it null",
        )
        _require(
            self.suite.split is Split.complete or self.model.variant is not Variant.base,
            "suite.split",
            self.suite.split.name,
            f"model={self.model.name} is a base model, which continues text and follows no "
            "instructions; choose suite.split=complete or an instruct model",
        )
        _require(
            self.generation.stop is Stop.benchmark or self.model.weights is not Weights.random,
            "generation.stop",
            self.generation.stop.name,
            "model.weights=random writes no programs, and each of its sequences has exactly "
            "max_new_tokens tokens; choose generation.stop=benchmark, or real weights",
        )
        own_file = self.suite.path is not None and self.suite.hub_id is None
        _require(
            not (own_file and self.suite.name in BUNDLED_SUITES),
            "suite.path",
            self.suite.path,
            f"its tasks are not {self.suite.name}'s, and would be recorded as if they were; name "
            "them: suite.name=...",
        )
