"""What is known of each engine before one is made; the schema, plan, stages and estimate read it.

An engine is an entry of `ENGINES` here, a module (or package) of its name in
``codejoule.generation`` and a file of its name in ``conf/engine``. Keys of its own are fields of
`EngineKeys`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum

from codejoule.domain.quantization import METHODS, TRANSFORMERS, VLLM, QuantizationMethod


class EngineName(Enum):
    """The engines, as the configuration names them."""

    generate = "generate"
    static = "static"
    graph = "graph"
    continuous = "continuous"
    server = "server"
    vllm = "vllm"


class KvCache(Enum):
    """Where keys and values of decoded sequences are kept."""

    dynamic = "dynamic"
    """As long as the batch's longest sequence so far."""
    static = "static"
    """Allocated for the longest sequence of the run."""
    slots = "slots"
    """The same, a slot for each sequence."""
    paged = "paged"
    """In pages of some tokens."""
    foreign = "foreign"
    """In a process that somebody else started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What one engine is."""

    cache: KvCache
    """Its KV cache."""
    refills: bool = False
    """Whether a waiting prompt takes the place of a sequence that has ended: a window is then the
    time in which ``engine.window_tasks`` sequences end, and otherwise a batch."""
    arrivals: bool = False
    """Whether requests may arrive while it runs (``batch.arrival_rate_per_s``)."""
    compiles: bool = False
    """Whether it compiles or captures what it runs, before anything is measured."""
    repeats: bool = True
    """Whether the same seed gives the same samples again."""
    owns_model: bool = False
    """Whether it loads a model of its own, so that none is loaded for it."""
    runs_already: bool = False
    """Whether somebody else serves that model already. What it says of itself is then not
    checked."""
    thinking: tuple[str, ...] = ("off", "on")
    """Values of ``generation.thinking`` that it knows: ``on`` needs the tokens of an answer, and
    ``budget`` a way to put others in place of those that the model chooses."""
    adapters: bool = False
    """Whether it runs an adapter (LoRA) beside the model (``model.merge_adapter=false``)."""
    one_device: bool = False
    """Whether the whole model must lie on one device."""
    loader: str | None = TRANSFORMERS
    """What loads its model, and so decides which quantization methods it runs; None where that is
    somebody else's affair."""
    keys: tuple[str, ...] = ()
    """Those of `OWN_KEYS` that it knows."""
    needs: Mapping[str, str] = field(default_factory=dict)
    """Keys that must be given, and what each is for."""


ENGINES: Mapping[EngineName, EngineFacts] = {
    EngineName.generate: EngineFacts(
        cache=KvCache.dynamic, adapters=True, thinking=("off", "on", "budget")
    ),
    EngineName.static: EngineFacts(
        cache=KvCache.static, compiles=True, adapters=True, thinking=("off", "on", "budget")
    ),
    EngineName.graph: EngineFacts(
        cache=KvCache.slots,
        refills=True,
        compiles=True,
        one_device=True,
        keys=("window_tasks", "compile", "check_every"),
    ),
    EngineName.continuous: EngineFacts(
        cache=KvCache.paged,
        refills=True,
        compiles=True,
        repeats=False,
        keys=("window_tasks",),
    ),
    EngineName.server: EngineFacts(
        cache=KvCache.foreign,
        refills=True,
        arrivals=True,
        repeats=False,
        owns_model=True,
        runs_already=True,
        loader=None,
        thinking=("off",),
        keys=("window_tasks", "url", "served_model", "timeout_s"),
        needs={
            "url": "the address of an OpenAI-compatible server on this host, e.g. "
            "engine.url=http://127.0.0.1:8000/v1"
        },
    ),
    EngineName.vllm: EngineFacts(
        cache=KvCache.paged,
        refills=True,
        arrivals=True,
        compiles=True,
        repeats=False,
        owns_model=True,
        loader=VLLM,
        keys=(
            "window_tasks",
            "python",
            "prefix_caching",
            "kv_dtype",
            "tensor_parallel",
            "max_batched_tokens",
            "speculative",
            "enforce_eager",
        ),
    ),
}


@dataclass(kw_only=True)
class EngineKeys:
    """The keys of ``engine``; null where an engine does not know one.

    Mutable, for Hydra's sake. `outside` marks what changes no result, `choices` has the values of
    a key.
    """

    name: EngineName = EngineName.generate
    warmup_batches: int = 1
    warmup_tokens: int = 16
    window_tasks: int | None = None
    compile: bool | None = None
    check_every: int | None = None
    url: str | None = field(default=None, metadata={"outside": True})
    served_model: str | None = None
    timeout_s: float | None = field(default=None, metadata={"outside": True})
    python: str | None = field(default=None, metadata={"outside": True})
    prefix_caching: bool | None = None
    kv_dtype: str | None = field(default=None, metadata={"choices": ("auto", "fp8")})
    tensor_parallel: int | None = None
    max_batched_tokens: int | None = None
    speculative: str | None = field(default=None, metadata={"choices": ("none", "ngram")})
    enforce_eager: bool | None = None


OWN_KEYS = tuple(each.name for each in fields(EngineKeys) if each.default is None)
"""Keys that only some engines know; a number among them is above 0."""

KEYS_OUTSIDE = tuple(each.name for each in fields(EngineKeys) if each.metadata.get("outside"))
"""Keys that change no result."""


def methods_of(engine: EngineFacts, *, experts: bool = False) -> tuple[str, ...]:
    """The quantization methods that an engine runs; with `experts` of a mixture of experts."""

    def loaders(facts: QuantizationMethod) -> tuple[str, ...]:
        return facts.experts if experts else facts.loaders

    return tuple(
        name for name, facts in METHODS.items() if engine.loader in (None, *loaders(facts))
    )


def engines_for(method: str, *, experts: bool = False) -> tuple[str, ...]:
    """The engines with a model of their own loading that run a quantization method; for one that
    none of them runs, those whose model somebody else has loaded."""
    able = {
        name.name: facts.loader
        for name, facts in ENGINES.items()
        if method in methods_of(facts, experts=experts)
    }
    return tuple(name for name, loader in able.items() if loader is not None) or tuple(able)


def engines_with(key: str) -> tuple[EngineName, ...]:
    """The engines that know one of `OWN_KEYS`."""
    return tuple(name for name, facts in ENGINES.items() if key in facts.keys)
