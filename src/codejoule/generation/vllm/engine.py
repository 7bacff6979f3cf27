"""The engine ``vllm``: requests to a vLLM that we have started."""

import logging
import math
import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING, Any

from codejoule.config.schema import EngineConfig
from codejoule.domain import METHODS, Completion, Pace, Prompt, Running
from codejoule.generation.decoding import Decoding
from codejoule.generation.engine import (
    Ended,
    Engine,
    ModelSource,
    ServedModel,
    Window,
    seed_of,
)
from codejoule.generation.finite import not_finite
from codejoule.generation.sequence import DecodedSequence, Pieces
from codejoule.generation.tokens import PromptRows
from codejoule.generation.vllm.child import Child
from codejoule.generation.vllm.environment import find_vllm
from codejoule.generation.vllm.proof import model_facts, prove

if TYPE_CHECKING:
    import transformers

_log = logging.getLogger(__name__)

_NGRAM = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4}
"""Proposes what followed the last four tokens earlier in the sequence."""


class VllmEngine(Engine):
    """vLLM in a process of its own, which owns the model. It is given token ids and gives token ids
    back, so that texts, stops and ends are found as with every other engine; a request whose text
    has ended is aborted. Each request draws from a seed of its own."""

    def __init__(
        self,
        model: ServedModel,
        tokenizer: "transformers.PreTrainedTokenizerBase",
        decoding: Decoding,
        config: EngineConfig,
    ) -> None:
        super().__init__(decoding)
        assert model.source is not None
        self._source: ModelSource = model.source
        self._software = model.software
        self._config = config
        self._tokens = PromptRows(
            tokenizer,
            vocabulary=self._source.vocabulary,
            context_tokens=self._source.context_tokens,
        )
        self._pieces = Pieces(tokenizer)
        self._end_tokens = decoding.end_tokens(model.end_token_owners, tokenizer)
        self._thinking = decoding.thinking(tokenizer)
        self._child: Child | None = None
        self._facts: dict[str, Any] = {}
        self._windows = 0

    @classmethod
    def check(cls, config: EngineConfig) -> None:
        """Whether there is a vLLM to start."""
        find_vllm(config.python)

    @classmethod
    def locate(cls, config: EngineConfig) -> ServedModel:
        """The vLLM that is there; raises `UserError` where there is none."""
        _, software = find_vllm(config.python)
        return ServedModel(id="vllm", software=software)

    def take_over(self, earlier: "VllmEngine") -> None:
        """Its vLLM, for requests that this has room for."""
        self._child, self._facts, self._windows = earlier._child, earlier._facts, earlier._windows
        earlier._child = None

    def open(self, windows: Sequence[Sequence[Prompt]], *, at_once: int) -> bool:
        """Start vLLM and have it load the weights, unless a vLLM was taken over that has the slots
        and the length, and no keys and values of earlier prompts. Raises `UserError` where it does
        not start."""
        new = self._decoding.max_new_tokens
        rows = self._tokens.rows(list(chain.from_iterable(windows)), max_new_tokens=new)
        slots, longest = min(at_once, max(map(len, windows))), max(map(len, rows)) + new
        has = self._facts
        if (
            has
            and not self._config.prefix_caching
            and slots <= has["slots"]
            and longest <= has["longest_tokens"]
        ):
            return False
        self.close()
        python, _ = find_vllm(self._config.python)
        self._child = Child(python, self._environment())
        self._child.say(
            {
                "engine": self._arguments(slots, longest),
                "kernel": self._source.quant.kernel,
                "fill": self._source.random_seed,
                "packed_floats": METHODS[self._source.quant.method.name].packed_floats,
            }
        )
        message = self._child.hear()
        # With several GPUs other processes load, and do not say when they have.
        self._facts = message.get("ready", {})
        return True

    def prepare(self, windows: Sequence[Sequence[Prompt]], *, at_once: int) -> None:
        """Wait until it has compiled, captured and profiled. Raises `UserError` where what it has
        set up is not what was asked for, and for logits that are not finite."""
        if self._child is None:
            self.open(windows, at_once=at_once)
        assert self._child is not None
        while not self._facts:
            self._facts = self._child.hear().get("ready", {})
        prove(self._facts, self._source, self._config)
        self._tell_small_cache()
        longest = max(chain.from_iterable(windows), key=lambda prompt: len(prompt.text))
        self._check_logits(longest)

    def _tell_small_cache(self) -> None:
        room, slots, longest = (
            self._facts[name] for name in ("kv_cache_tokens", "slots", "longest_tokens")
        )
        if room < slots * longest:
            _log.warning(
                "vLLM has room for keys and values of %d tokens, and %d sequences of up to %d may "
                "need more: it then breaks some off and reads them anew, which costs energy; lower "
                "batch.size or generation.max_new_tokens where that is not what you study",
                room,
                slots,
                longest,
            )

    def _environment(self) -> dict[str, str]:
        source = self._source
        if source.device == "cpu":
            settings = {"OMP_NUM_THREADS": str(source.cpu_threads or os.cpu_count())}
            if source.kv_cache_bytes is not None:
                gib = math.ceil(source.kv_cache_bytes / 2**30)
                settings["VLLM_CPU_KVCACHE_SPACE"] = str(gib)
            return settings
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else None
        chosen = [names[gpu] if names else str(gpu) for gpu in source.gpus]
        return {"CUDA_VISIBLE_DEVICES": ",".join(chosen)}

    def _arguments(self, at_once: int, longest: int) -> dict[str, Any]:
        """What vLLM calls an engine's arguments."""
        config, source = self._config, self._source
        arguments: dict[str, Any] = {
            "model": str(source.folder),
            "skip_tokenizer_init": True,
            "generation_config": "vllm",
            "dtype": source.dtype,
            "max_model_len": longest,
            "max_num_seqs": at_once,
            "seed": source.random_seed or 0,
            "disable_log_stats": False,
            "enable_prefix_caching": bool(config.prefix_caching),
            "enforce_eager": bool(config.enforce_eager),
            "kv_cache_dtype": config.kv_dtype or "auto",
            "tensor_parallel_size": config.tensor_parallel or 1,
        }
        if source.random_seed is not None:
            arguments["load_format"] = "dummy"
        method = source.quant.method.name
        if METHODS[method].bits and not METHODS[method].packed:
            # Made while loading; vLLM's name for it is ours.
            arguments["quantization"] = method
        if config.max_batched_tokens is not None:
            arguments["max_num_batched_tokens"] = config.max_batched_tokens
        if config.speculative == "ngram":
            arguments["speculative_config"] = _NGRAM
        return arguments

    def _check_logits(self, prompt: Prompt) -> None:
        """The longest prompt is the likeliest to overflow."""
        ids = self._tokens.rows([prompt], max_new_tokens=1)[0]
        assert self._child is not None
        sampling = {"max_tokens": 1, "prompt_logprobs": 0}
        request = {"id": "logits", "ids": ids, "sampling": sampling, "arrives_s": 0}
        self._child.say({"requests": [request], "at_once": 1, "deltas": False})
        *_, odd = self._child.hear()["new"][0]
        if odd:
            raise not_finite(self._source.dtype, f"in the prompt of {prompt.task_id}")

    def decode(self, window: Window) -> Generator[Ended]:
        """Have the prompts answered, so many at once."""
        assert self._child is not None, "prepared first"
        opened_s = perf_counter()
        rows = self._tokens.rows(window.prompts, max_new_tokens=window.max_new_tokens)
        self._windows += 1
        # No name is used twice: tokens of a sequence that we have ended may come in the next
        # window.
        arriving = zip(window.prompts, window.each_arrival_s, strict=True)
        answers = {
            f"{self._windows}/{n}": _Answer(self._begin(prompt), arrived_s)
            for n, (prompt, arrived_s) in enumerate(arriving)
        }
        self._child.say(
            {
                "requests": [
                    {
                        "id": name,
                        "ids": ids,
                        "sampling": self._sampling(window, prompt),
                        # By the clock of this machine, which the child reads, too.
                        "arrives_s": opened_s + (answers[name].arrived_s or 0.0),
                    }
                    for name, ids, prompt in zip(answers, rows, window.prompts, strict=True)
                ],
                "at_once": window.at_once,
                # What nothing can end early need not be told token by token.
                "deltas": self._decoding.ends_by_text,
            }
        )
        places = {name: place for place, name in enumerate(answers)}
        running: dict[str, _Answer] = {}
        while answers:
            message = self._child.hear()
            for name, began_s in message["began"].items():
                if name in answers:
                    answers[name].began_s = began_s
                    running[name] = answers[name]
            ended: dict[int, Completion] = {}
            for name, tokens, reason, times, _ in message["new"]:
                answer = answers.get(name)
                if answer is None:
                    continue
                if answer.take(tokens, times or (), message["at_s"]) and reason is None:
                    self._child.say({"end": name})
                elif reason is None:
                    continue
                del answers[name], running[name]
                ended[places[name]] = answer.completion(len(rows[places[name]]), opened_s)
            if ended:
                now_s = message["at_s"]
                yield Ended(
                    completions=ended,
                    running=tuple(
                        each.running(window.prompts[places[name]], opened_s, now_s)
                        for name, each in running.items()
                    ),
                    clock=now_s - opened_s,
                )

    def _begin(self, prompt: Prompt) -> DecodedSequence:
        stop = self._decoding.text_stop(prompt)
        return DecodedSequence(
            prompt,
            self._pieces,
            end_tokens=self._end_tokens,
            stop=stop,
            thinking=self._thinking,
        )

    def _sampling(self, window: Window, prompt: Prompt) -> dict[str, Any]:
        generation = self._decoding.generation
        settings: dict[str, Any] = {
            "temperature": 0.0,
            "max_tokens": window.max_new_tokens,
            "stop_token_ids": list(self._end_tokens),
        }
        if generation.do_sample:
            settings |= {
                "temperature": generation.temperature,
                "top_p": 1.0 if generation.top_p is None else generation.top_p,
                "seed": seed_of(window.seed, prompt),
            }
        return settings

    def facts(self) -> dict[str, Any]:
        """How vLLM is set up, as it says itself."""
        told = ("layers", "numbers", "architecture", "memory_bytes", "dtype")
        return {"software": self._software} | {
            name: value for name, value in self._facts.items() if name not in told
        }

    def model_facts(self) -> dict[str, Any]:
        """The model as vLLM holds it: every linear layer, looked at in its memory."""
        return model_facts(self._facts, self._source)

    def memory_peak_bytes(self) -> int | None:
        """What vLLM's processes had at most: allocated on GPUs, or resident on the CPU."""
        assert self._child is not None
        self._child.say({"peak": True})
        while True:
            # Tokens of sequences that had ended may come before the answer.
            if (peak := self._child.hear().get("memory_peak_bytes")) is not None:
                return int(peak)

    def close(self) -> None:
        """End vLLM."""
        if self._child is not None:
            self._child.close()
        self._child, self._facts = None, {}


@dataclass(slots=True)
class _Answer:
    """The answer to one request so far."""

    sequence: DecodedSequence
    arrived_s: float | None
    began_s: float = 0.0
    first_s: float | None = None
    last_s: float = 0.0

    def take(self, tokens: Sequence[int], times: Sequence[float], now_s: float) -> bool:
        """More tokens, which were there at `now_s`, unless `times` has first and last; whether its
        text has ended."""
        if times:
            self.first_s, self.last_s = times
        else:
            self.first_s, self.last_s = self.first_s or now_s, now_s
        return any(self.sequence.feed(token) for token in tokens)

    def completion(self, prompt_tokens: int, opened_s: float) -> Completion:
        done = self.sequence.completion(prompt_tokens=prompt_tokens)
        return replace(done, pace=self._pace(opened_s, self.last_s))

    def running(self, prompt: Prompt, opened_s: float, now_s: float) -> Running:
        """While it runs."""
        return Running(
            task_id=prompt.task_id,
            sample=prompt.sample,
            prompt_tokens=0,
            pace=self._pace(opened_s, now_s),
        )

    def _pace(self, opened_s: float, last_s: float) -> Pace:
        first_s = last_s if self.first_s is None else self.first_s
        return Pace.in_seconds(opened_s, self.began_s, first_s, last_s, arrived_s=self.arrived_s)
