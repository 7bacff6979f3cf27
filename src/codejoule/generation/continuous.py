"""The engine ``continuous``: transformers' continuous batching."""

import logging
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from time import perf_counter
from typing import TYPE_CHECKING, Any

from codejoule.config import UserError
from codejoule.config.schema import EngineConfig
from codejoule.domain import Completion, Pace, Prompt, Running
from codejoule.generation.compat import attention_implementation, page_setting
from codejoule.generation.decoding import Decoding
from codejoule.generation.engine import Ended, LocalEngine, Window, seed_of
from codejoule.generation.finite import not_finite
from codejoule.generation.sequence import DecodedSequence

if TYPE_CHECKING:
    import transformers

_NO_PROBABILITIES = "probability tensor contains either"
"""PyTorch's words where it cannot draw from NaN."""
_PAGE_TOKENS = 256
_POLL_S = 1.0
_NUMBERS = count()
"""Numbers of requests, never used twice: the manager keeps the ids of those that were cancelled."""


class ContinuousEngine(LocalEngine):
    """Hands prompts to transformers' ``ContinuousBatchingManager``, a fixed number in flight. Its
    KV cache is paged; on a GPU its forward passes are CUDA graphs. Prompts and tokens share forward
    passes, so that prefill cannot be told from decode, and nothing is marked. Pages are not shared
    between requests, because a prompt would then cost nothing if an earlier one began alike. What
    is drawn with a seed depends on which requests share a pass, and so on timing."""

    def __init__(
        self,
        model: "transformers.PreTrainedModel",
        tokenizer: "transformers.PreTrainedTokenizerBase",
        decoding: Decoding,
        config: EngineConfig | None = None,
    ) -> None:
        """Raises `UserError` for a model whose requests
        transformers' continuous batching would leave unanswered."""
        if getattr(model.config, "kv_lora_rank", None) is not None:
            raise UserError(
                "engine=continuous: transformers' continuous batching gives no answers from "
                f"models with latent attention ({model.config.model_type}); choose engine=graph, "
                "engine=static or engine=generate"
            )
        super().__init__(model, tokenizer, decoding, config)
        self._manager: Any = None

    def prepare(self, windows: Sequence[Sequence[Prompt]], *, at_once: int) -> None:
        """Allocate the pages, capture the graphs and start the manager's thread."""
        from transformers import ContinuousBatchingConfig

        self.close()
        new = self._decoding.max_new_tokens
        rows = self._tokens.rows(list(chain.from_iterable(windows)), max_new_tokens=new)
        longest = max(map(len, rows))
        at_once = min(at_once, max(map(len, windows)))
        on_gpu = self._model.device.type == "cuda"
        # It reports every decision at level INFO, whatever transformers' verbosity.
        logging.getLogger("ContinuousBatchingLogger").setLevel(logging.WARNING)
        self._manager = self._model.init_continuous_batching(
            generation_config=self._decoding.settings(
                max_new_tokens=new,
                end_tokens=self._end_tokens or (-1,),
                pad_token=self._tokens.pad_token,
            ),
            continuous_batching_config=ContinuousBatchingConfig(
                **{page_setting(): _PAGE_TOKENS},
                num_blocks=at_once * math.ceil((longest + new) / _PAGE_TOKENS) + 1,
                max_batch_tokens=max(at_once, 2 * longest, _PAGE_TOKENS),
                max_requests_per_batch=at_once,
                allow_block_sharing=False,
                # The public sign of logits that are not finite: see `_Requests`.
                return_logprobs=True,
                use_cuda_graph=on_gpu,
            ),
        )
        if on_gpu:
            self._manager.warmup()
        self._manager.start()

    def facts(self) -> dict[str, Any]:
        """What transformers made of the settings."""
        resolved = self._manager.continuous_batching_config
        varlen, decode = resolved.use_cuda_graph
        return {
            "page_tokens": getattr(resolved, page_setting()),
            "pages": resolved.num_blocks,
            "pass_tokens": resolved.max_batch_tokens,
            "requests_in_flight": resolved.max_requests_per_batch,
            "cuda_graphs": {"mixed": varlen, "decode": decode},
            "compiled": resolved.varlen_compile_config is not None,
            "attention": attention_implementation(self._model),
        }

    def close(self) -> None:
        """Stop the manager's thread and free its pages."""
        if self._manager is not None:
            self._manager.stop(block=True)
            self._manager.destroy()
            self._manager = None

    def decode(self, window: Window) -> Generator[Ended]:
        """Complete the prompts, so many requests in flight. Raises `UserError` for a request that
        fails or is not answered, too."""
        import torch

        assert self._manager is not None, "prepared first"
        ids = self._tokens.rows(window.prompts, max_new_tokens=window.max_new_tokens)
        torch.manual_seed(seed_of(window.seed, window.prompts[0]))
        options = {
            "max_new_tokens": window.max_new_tokens,
            "streaming": self._decoding.ends_by_text,
            "record_timestamps": True,
            "eos_token_id": list(self._end_tokens) or -1,
        }
        requests = _Requests(self._manager, self._model, window, ids, self._begin, options)
        requests.send()
        while requests.left():
            ended = requests.take(self._answer())
            requests.send()
            if ended is not None:
                yield Ended(
                    completions=dict([ended]), running=requests.running(), clock=requests.now_s()
                )

    def _answer(self) -> Any:
        """The next message from the manager's thread."""
        while True:
            answer = self._manager.get_result(timeout=_POLL_S)
            if answer is not None:
                return answer
            if not self._manager.is_running():
                raise UserError(
                    "engine=continuous: transformers' generation thread has ended with requests "
                    "unanswered; its log says why. Choose engine=graph or engine=generate"
                )


ENGINE = ContinuousEngine


@dataclass(slots=True)
class _Sent:
    """A request in flight."""

    number: int
    sequence: DecodedSequence
    sent_s: float
    fed: int = 0
    first_s: float | None = None


class _Requests:
    """The requests of one window."""

    def __init__(
        self,
        manager: Any,
        model: "transformers.PreTrainedModel",
        window: Window,
        ids: Sequence[Sequence[int]],
        begin: Callable[[Prompt], DecodedSequence],
        options: Mapping[str, Any],
    ) -> None:
        self._manager = manager
        self._model = model
        self._window = window
        self._ids = ids
        self._begin = begin
        self._options = options
        self._next = 0
        self._sent: dict[str, _Sent] = {}
        self._opened_s = perf_counter()

    def left(self) -> bool:
        """Whether any has not ended."""
        return bool(self._sent) or self._next < len(self._ids)

    def now_s(self) -> float:
        """Time since the window's opening [s]."""
        return perf_counter() - self._opened_s

    def running(self) -> tuple[Running, ...]:
        """Those in flight."""
        now_s = perf_counter()
        return tuple(
            Running(
                task_id=self._window.prompts[sent.number].task_id,
                sample=self._window.prompts[sent.number].sample,
                prompt_tokens=0,
                pace=Pace.in_seconds(self._opened_s, sent.sent_s, sent.first_s or now_s, now_s),
            )
            for sent in self._sent.values()
        )

    def send(self) -> None:
        """Send waiting prompts until as many requests are in flight as the window allows."""
        while len(self._sent) < self._window.at_once and self._next < len(self._ids):
            number, self._next = self._next, self._next + 1
            prompt, request_id = self._window.prompts[number], f"{next(_NUMBERS)}"
            accepted = self._manager.add_request(
                list(self._ids[number]), request_id=request_id, **self._options
            )
            if accepted is None:
                raise UserError(
                    f"{prompt.task_id}: transformers' continuous batching takes "
                    "no more requests; run the job again, or choose engine=graph"
                )
            self._sent[request_id] = _Sent(number, self._begin(prompt), perf_counter())

    def take(self, answer: Any) -> tuple[int, Completion] | None:
        """Feed what an answer holds to its sequence; its number and completion once it has
        ended."""
        sent = self._sent.get(answer.request_id)
        if sent is None:
            return None  # of a sequence that ended earlier, and was cancelled
        task_id = self._window.prompts[sent.number].task_id
        if answer.error is not None:
            raise self._failure(task_id, answer.error)
        tokens, sent.fed = answer.generated_tokens[sent.fed :], len(answer.generated_tokens)
        ended = any(sent.sequence.feed(token) for token in tokens)
        sent.first_s = next(iter(answer.timestamps or ()), sent.first_s)
        if not ended and not answer.is_finished():
            return None
        if not answer.generated_tokens:
            raise UserError(
                f"{task_id}: transformers' continuous batching answered with no token at all; "
                "choose engine=graph or engine=generate"
            )
        # A softmax over logits of which one is NaN or infinite is NaN, for every token.
        if not all(map(math.isfinite, answer.logprobs)):
            raise not_finite(self._model.dtype, f"in the answer to {task_id}")
        del self._sent[answer.request_id]
        if not answer.is_finished():
            self._manager.cancel_request(answer.request_id)
        done = sent.sequence.completion(prompt_tokens=len(self._ids[sent.number]))
        first_s, last_s = answer.timestamps[0], answer.timestamps[done.output_tokens - 1]
        pace = Pace.in_seconds(self._opened_s, sent.sent_s, first_s, last_s)
        return sent.number, replace(done, pace=pace)

    def _failure(self, task_id: str, text: str) -> Exception:
        """The error that the manager's thread passes on as text."""
        import torch

        if "out of memory" in text:
            out_of_memory: Exception = torch.OutOfMemoryError(text)
            return out_of_memory
        if _NO_PROBABILITIES in text:
            return not_finite(self._model.dtype, f"in the answer to {task_id}")
        return UserError(
            f"{task_id}: transformers' continuous batching failed ({text}); choose "
            "engine=graph or engine=generate, or a smaller batch"
        )
