"""The engine ``continuous``: transformers' continuous batching."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain, count
from time import perf_counter
from typing import TYPE_CHECKING, Any

from codejoule.config import UserError
from codejoule.domain import Completion, Pace, Prompt
from codejoule.generation.decoding import Decoding
from codejoule.generation.endings import Endings
from codejoule.generation.engine import Decoded, unwatched
from codejoule.generation.finite import not_finite
from codejoule.generation.sequence import DecodedSequence
from codejoule.generation.settings import generation_settings
from codejoule.generation.tokens import PromptTokens

if TYPE_CHECKING:
    import transformers

_NO_PROBABILITIES = "probability tensor contains either"
"""PyTorch's words where it cannot draw from NaN."""
_PAGE_TOKENS = 256
_POLL_S = 1.0


class ContinuousEngine:
    """Hands prompts to transformers' ``ContinuousBatchingManager``, so many requests in flight.

    Its KV cache is paged; on a GPU its forward passes are CUDA graphs. Prompts and tokens share
    forward passes, so that prefill cannot be told from decode. Pages are not shared between
    requests: a prompt would cost nothing where an earlier one began alike. What is drawn with a
    seed depends on which requests share a pass, and so on timing.
    """

    compiles = True

    def __init__(
        self,
        model: "transformers.PreTrainedModel",
        tokenizer: "transformers.PreTrainedTokenizerBase",
        decoding: Decoding,
    ) -> None:
        """Raises `UserError` for a model whose requests
        transformers' continuous batching would leave unanswered."""
        if getattr(model.config, "kv_lora_rank", None) is not None:
            raise UserError(
                "engine=continuous: transformers' continuous batching gives no answers from "
                f"models with latent attention ({model.config.model_type}); choose engine=graph, "
                "engine=static or engine=generate"
            )
        self._model = model
        self._tokens = PromptTokens(model, tokenizer)
        self._generation = decoding.generation
        self._max_new_tokens = decoding.max_new_tokens
        self._endings = Endings(model, tokenizer, decoding)
        self._manager: Any = None

    def prepare(self, windows: Sequence[Sequence[Prompt]], *, at_once: int) -> None:
        """Allocate the pages, capture the graphs and start the manager's thread."""
        self.close()
        prompts = list(chain.from_iterable(windows))
        rows = self._tokens.rows(prompts, max_new_tokens=self._max_new_tokens)
        longest = max(map(len, rows))
        at_once = min(at_once, max(map(len, windows)))
        on_gpu = self._model.device.type == "cuda"
        pages = math.ceil((longest + self._max_new_tokens) / _PAGE_TOKENS)
        settings = generation_settings(
            self._generation,
            max_new_tokens=self._max_new_tokens,
            end_tokens=self._endings.end_tokens or (-1,),
            pad_token=self._tokens.pad_token,
        )
        from transformers import ContinuousBatchingConfig

        # It reports every decision at level INFO, whatever transformers' verbosity.
        logging.getLogger("ContinuousBatchingLogger").setLevel(logging.WARNING)

        self._manager = self._model.init_continuous_batching(
            generation_config=settings,
            continuous_batching_config=ContinuousBatchingConfig(
                **{_page_setting(): _PAGE_TOKENS},
                num_blocks=at_once * pages + 1,
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

    def warm_up(self, prompts: Sequence[Prompt], *, tokens: int) -> None:
        """Decode `prompts` for `tokens` new tokens each; what comes out is thrown away."""
        tokens = min(tokens, self._max_new_tokens)
        self._decode(prompts, at_once=len(prompts), seed=0, max_new_tokens=tokens)

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        at_once: int,
        seed: int,
        mark: Callable[[str], None],
        ended: Callable[[int], object] = unwatched,
    ) -> Decoded:
        """Complete `prompts`, `at_once` requests in flight.

        `mark` is not called: see the class. Raises `UserError` for a prompt that does not fit
        the model's context, for a request that fails or is not answered, and for logits that are
        not finite.
        """
        return self._decode(
            prompts,
            at_once=at_once,
            seed=seed,
            max_new_tokens=self._max_new_tokens,
            ended=ended,
        )

    def facts(self) -> dict[str, Any]:
        """What transformers made of the settings."""
        resolved = self._manager.continuous_batching_config
        varlen, decode = resolved.use_cuda_graph
        return {
            "kv_cache": "paged",
            "page_tokens": getattr(resolved, _page_setting()),
            "pages": resolved.num_blocks,
            "pass_tokens": resolved.max_batch_tokens,
            "requests_in_flight": resolved.max_requests_per_batch,
            "cuda_graphs": {"mixed": varlen, "decode": decode},
            "compiled": resolved.varlen_compile_config is not None,
            "attention": self._model.config._attn_implementation,
        }

    def close(self) -> None:
        """Stop the manager's thread and free its pages."""
        if self._manager is not None:
            self._manager.stop(block=True)
            self._manager.destroy()
            self._manager = None

    def _decode(
        self,
        prompts: Sequence[Prompt],
        *,
        at_once: int,
        seed: int,
        max_new_tokens: int,
        ended: Callable[[int], object] = unwatched,
    ) -> Decoded:
        import torch

        assert self._manager is not None, "prepared first"
        ids = self._tokens.rows(prompts, max_new_tokens=max_new_tokens)
        torch.manual_seed(seed)
        window = _Requests(self._manager, self._model, prompts, ids, self._endings, max_new_tokens)
        window.send(at_once)
        while len(window.completions) < len(prompts):
            before = len(window.completions)
            window.take(self._answer())
            ended(len(window.completions) - before)
            window.send(at_once)
        found = tuple(window.completions[number] for number in range(len(prompts)))
        return Decoded(completions=found, positions=None)

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


def _page_setting() -> str:
    """What transformers calls the tokens of a page: `block_size` until 5.17, later `page_size`."""
    from transformers import ContinuousBatchingConfig

    names = {field.name for field in fields(ContinuousBatchingConfig)}
    return "page_size" if "page_size" in names else "block_size"


_NUMBERS = count()


@dataclass(slots=True)
class _Sent:
    """A request in flight."""

    number: int
    sequence: DecodedSequence
    sent_s: float
    fed: int = 0


class _Requests:
    """The requests of one window."""

    def __init__(
        self,
        manager: Any,
        model: "transformers.PreTrainedModel",
        prompts: Sequence[Prompt],
        ids: Sequence[Sequence[int]],
        endings: Endings,
        max_new_tokens: int,
    ) -> None:
        self.completions: dict[int, Completion] = {}
        self._manager = manager
        self._model = model
        self._prompts = prompts
        self._ids = ids
        self._endings = endings
        self._max_new_tokens = max_new_tokens
        self._next = 0
        self._sent: dict[str, _Sent] = {}
        self._opened_s = perf_counter()

    def send(self, at_once: int) -> None:
        """Send waiting prompts until so many requests are in flight."""
        while len(self._sent) < at_once and self._next < len(self._prompts):
            number, self._next = self._next, self._next + 1
            # The manager keeps the ids of requests that were cancelled.
            request_id = f"{next(_NUMBERS)}"
            accepted = self._manager.add_request(
                list(self._ids[number]),
                request_id=request_id,
                max_new_tokens=self._max_new_tokens,
                streaming=self._endings.text.in_force,
                record_timestamps=True,
                eos_token_id=list(self._endings.end_tokens) or -1,
            )
            if accepted is None:
                raise UserError(
                    f"{self._prompts[number].task_id}: transformers' continuous batching takes "
                    "no more requests; run the job again, or choose engine=graph"
                )
            sequence = self._endings.begin(self._prompts[number])
            self._sent[request_id] = _Sent(number, sequence, perf_counter())

    def take(self, answer: Any) -> None:
        """Feed what an answer holds to its sequence."""
        sent = self._sent.get(answer.request_id)
        if sent is None:
            return  # of a sequence that ended earlier, and was cancelled
        task_id = self._prompts[sent.number].task_id
        if answer.error is not None:
            _raise_out_of_memory(answer.error)
            if _NO_PROBABILITIES in answer.error:
                raise not_finite(self._model, f"in the answer to {task_id}")
            raise UserError(
                f"{task_id}: transformers' continuous batching failed ({answer.error}); choose "
                "engine=graph or engine=generate, or a smaller batch"
            )
        tokens, sent.fed = answer.generated_tokens[sent.fed :], len(answer.generated_tokens)
        ended = any(sent.sequence.feed(token) for token in tokens)
        if not ended and not answer.is_finished():
            return
        if not answer.generated_tokens:
            raise UserError(
                f"{task_id}: transformers' continuous batching answered with no token at all; "
                "choose engine=graph or engine=generate"
            )
        # A softmax over logits of which one is NaN or infinite is NaN, for every token.
        if not all(map(math.isfinite, answer.logprobs)):
            raise not_finite(self._model, f"in the answer to {task_id}")
        del self._sent[answer.request_id]
        if not answer.is_finished():
            self._manager.cancel_request(answer.request_id)
        done = sent.sequence.completion(prompt_tokens=len(self._ids[sent.number]))
        first_s, last_s = answer.timestamps[0], answer.timestamps[done.output_tokens - 1]
        pace = Pace(
            ttft_s=first_s - sent.sent_s,
            decode_s=last_s - first_s,
            begin=sent.sent_s - self._opened_s,
            first=first_s - self._opened_s,
            end=last_s - self._opened_s,
        )
        self.completions[sent.number] = replace(done, pace=pace)


def _raise_out_of_memory(text: str) -> None:
    """What the manager's thread passes on as text, as the error that it was."""
    import torch

    if "out of memory" in text:
        raise torch.OutOfMemoryError(text)
