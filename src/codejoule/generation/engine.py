"""What every engine offers, and how one is found by its name."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.config.schema import EngineConfig, QuantConfig
from codejoule.domain import Completion, Prompt, Running
from codejoule.domain.engines import EngineName
from codejoule.generation.decoding import Decoding
from codejoule.generation.sequence import DecodedSequence, Pieces
from codejoule.generation.tokens import PromptTokens

if TYPE_CHECKING:
    import transformers


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What is decoded in one go."""

    prompts: Sequence[Prompt]
    """What to complete."""
    at_once: int
    """How many of them together, at most."""
    seed: int
    """Decides what is drawn, where the engine can say so."""
    max_new_tokens: int
    """Limit on the tokens of a sequence."""
    mark: Callable[[str], None]
    """Called with `FIRST_TOKEN` once, when the first tokens exist, and around every later prefill
    with the names that `later_prefill` has for it, where the engine tells prefill from decode."""
    arrivals_s: Sequence[float] | None = None
    """When each prompt arrives [s after the opening], in order; None where all are there from the
    beginning, as for engines that take no arrivals."""

    @property
    def each_arrival_s(self) -> Sequence[float | None]:
        """The same for each prompt."""
        return (None,) * len(self.prompts) if self.arrivals_s is None else self.arrivals_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Sequences that have ended, told as soon as they have."""

    completions: Mapping[int, Completion]
    """By the place of their prompts in the window."""
    running: tuple[Running, ...] = ()
    """Those that have begun and run on."""
    clock: float = 0.0
    """This moment, on the clock of the completions' paces."""
    positions: int | None = None
    """Token positions that the model has computed for the window so far, padding and ended rows
    included; None where the engine cannot tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """The result of one window."""

    completions: tuple[Completion, ...]
    """One per prompt, in the prompts' order."""
    positions: int | None
    """Token positions that the model computed, padding and ended rows included; None where the
    engine cannot tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """What an engine must know to load a model by itself."""

    folder: Path
    """Its ``config.json``, and its weights unless they are random."""
    random_seed: int | None
    """What random weights are drawn from; None for those in the folder."""
    quant: QuantConfig
    """How linear layers are stored, the group size in force in it."""
    dtype: str
    """Of everything unquantized."""
    device: str
    """``cpu`` or ``cuda``."""
    gpus: tuple[int, ...]
    """The GPUs that it may use, by PyTorch's numbers."""
    cpu_threads: int | None
    """Threads of the CPU's kernels; None for all cores."""
    vocabulary: int
    """Rows of the embedding."""
    context_tokens: int | None
    """Positions that it was made for; None where its config names none."""
    kv_cache_bytes: int | None
    """What keys and values of a whole batch are predicted to take; None where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """The model of an engine that loads its own."""

    id: str
    """The name that requests give."""
    software: str
    """What serves it, and in which version, as far as that is known."""
    end_token_owners: tuple[Any, ...] = ()
    """Configs of the model that name end tokens."""
    source: ModelSource | None = None
    """What the engine loads; None for a model that is served already."""


def _nothing(_: object) -> None:
    """Ignores what it is told."""


class Engine(ABC):
    """Turns prompts into completions. An engine is made for one model, one way of decoding and one
    limit on new tokens."""

    def __init__(self, decoding: Decoding) -> None:
        self._decoding = decoding

    @classmethod  # noqa: B027
    def check(cls, config: EngineConfig) -> None:
        """Raises `UserError` where this machine lacks what the engine needs: asked before the first
        job of a sweep."""

    @classmethod
    def locate(cls, config: EngineConfig) -> ServedModel:
        """The model that this engine has of its own, asked before anything is loaded."""
        raise NotImplementedError(f"{cls.__name__} is given its model")

    def take_over(self, earlier: Any) -> None:  # noqa: B027
        """Take what an engine of the same model and settings has loaded; before `open`."""

    def open(self, windows: Sequence[Sequence[Prompt]], *, at_once: int) -> bool:
        """Load the model, or find out how the one that is served is spoken to, where the engine
        has one of its own; before `prepare`, with the same arguments. Returns whether anything was
        loaded: what was taken over may do."""
        return False

    @abstractmethod
    def prepare(self, windows: Sequence[Sequence[Prompt]], *, at_once: int) -> None:
        """Compile and capture what decoding these windows' prompts, at most `at_once` together,
        will run, so that none of it happens later."""

    @abstractmethod
    def decode(self, window: Window) -> Generator[Ended]:
        """Complete a window's prompts, and give what has ended as it ends. Who takes it must be
        quick: an engine may wait meanwhile. Raises `UserError` for a prompt that the model cannot
        take, for logits that are not finite and for what else keeps an engine from answering."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """How it decodes, as it was really set up; asked after `prepare`."""

    def model_facts(self) -> dict[str, Any]:
        """What an engine with a model of its own knows of it; asked after `prepare`."""
        return {"proven": False, "dtype": "not proven", "kernels": {}}

    def memory_peak_bytes(self) -> int | None:
        """Peak of the memory of an engine with a model of its own; None where nobody can tell."""
        return None

    def close(self) -> None:  # noqa: B027
        """Give back what the engine holds beside the model."""

    def warm_up(self, prompts: Sequence[Prompt], *, tokens: int) -> None:
        """Decode `prompts` together for `tokens` new tokens each, for nothing but the caches'
        sake."""
        self.generate(prompts, at_once=len(prompts), seed=0, max_new_tokens=tokens)

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        at_once: int,
        seed: int,
        mark: Callable[[str], None] = _nothing,
        max_new_tokens: int | None = None,
        arrivals_s: Sequence[float] | None = None,
    ) -> Decoded:
        """Complete `prompts` as `Window` says; `max_new_tokens` may lower the run's limit."""
        found: dict[int, Completion] = {}
        for told in self.stream(
            prompts,
            at_once=at_once,
            seed=seed,
            mark=mark,
            max_new_tokens=max_new_tokens,
            arrivals_s=arrivals_s,
        ):
            found |= told.completions
        return Decoded(
            completions=tuple(found[place] for place in range(len(prompts))),
            positions=told.positions if prompts else None,
        )

    def stream(
        self,
        prompts: Sequence[Prompt],
        *,
        at_once: int,
        seed: int,
        mark: Callable[[str], None] = _nothing,
        max_new_tokens: int | None = None,
        arrivals_s: Sequence[float] | None = None,
    ) -> Generator[Ended]:
        """The same, as sequences end."""
        limit = self._decoding.max_new_tokens
        return self.decode(
            Window(
                prompts=prompts,
                at_once=at_once,
                seed=seed,
                max_new_tokens=min(max_new_tokens or limit, limit),
                mark=mark,
                arrivals_s=arrivals_s,
            )
        )


class LocalEngine(Engine):
    """An engine around a model in this process."""

    def __init__(
        self,
        model: "transformers.PreTrainedModel",
        tokenizer: "transformers.PreTrainedTokenizerBase",
        decoding: Decoding,
        config: EngineConfig | None = None,
    ) -> None:
        """Raises `UserError` for a model that the engine cannot decode."""
        super().__init__(decoding)
        self._model = model
        self._config = config or EngineConfig()
        self._tokens = PromptTokens(model, tokenizer)
        self._pieces = Pieces(tokenizer)
        self._end_tokens = decoding.end_tokens((model.generation_config, model.config), tokenizer)
        self._thinking = decoding.thinking(tokenizer)

    def _begin(self, prompt: Prompt) -> DecodedSequence:
        """The sequence that will answer `prompt`: what ends one, where its text is cut and how its
        tokens are counted is the same for all engines."""
        stop = self._decoding.text_stop(prompt)
        return DecodedSequence(
            prompt,
            self._pieces,
            end_tokens=self._end_tokens,
            stop=stop,
            thinking=self._thinking,
        )


def engine_class(name: EngineName) -> Any:
    """The engine of this name: what the module of the same name calls ``ENGINE``."""
    return import_module(f"{__package__}.{name.value}").ENGINE


def make_engine(
    config: EngineConfig,
    model: "transformers.PreTrainedModel | ServedModel",
    tokenizer: "transformers.PreTrainedTokenizerBase",
    decoding: Decoding,
) -> Engine:
    """The engine named by `config`, around `model`, or at the model of its own. Raises `UserError`
    for a model that the engine cannot decode."""
    engine = engine_class(config.name)(model, tokenizer, decoding, config)
    assert isinstance(engine, Engine)
    return engine


def seed_of(seed: int, prompt: Prompt) -> int:
    """A seed for one request of a window, the same whatever is decoded beside it."""
    text = f"{seed}/{prompt.task_id}/{prompt.sample}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1
