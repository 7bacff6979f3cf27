"""The engine ``server``: requests to an OpenAI-compatible server on this machine."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from codejoule.config import UserError
from codejoule.config.schema import EngineConfig
from codejoule.domain import Completion, FinishReason, Pace, Prompt, Running
from codejoule.generation.decoding import Decoding
from codejoule.generation.engine import Ended, Engine, ServedModel, Window, seed_of
from codejoule.generation.server.dialect import Dialect, body
from codejoule.generation.server.identity import identify

if TYPE_CHECKING:
    import httpx
    import transformers

_DONE = "[DONE]"


@dataclass(slots=True)
class _Answer:
    """The answer to one request so far."""

    sent_s: float
    arrived_s: float | None
    first_s: float = 0.0
    last_s: float = 0.0
    text: str = ""
    kept: int | None = None
    ended: FinishReason | None = None
    told: str | None = None
    usage: dict[str, int] = field(default_factory=dict)

    def running(self, prompt: Prompt, opened_s: float) -> Running:
        """While it runs."""
        now_s = perf_counter()
        return Running(
            task_id=prompt.task_id,
            sample=prompt.sample,
            prompt_tokens=0,
            pace=Pace.in_seconds(
                opened_s, self.sent_s, self.first_s or now_s, now_s, arrived_s=self.arrived_s
            ),
        )


class ServerEngine(Engine):
    """Sends prompts to a server, a fixed number in flight, and ends them by their text. The server
    decides about batches, caches and kernels. Prefill cannot be told from
    decode, and nothing is marked. A request whose text has ended is broken off, and its tokens are
    counted with the model's tokenizer; otherwise the server's count holds. Each request has a seed
    of its own; whether the same seed then gives the same text is for the server to say."""

    def __init__(
        self,
        model: ServedModel,
        tokenizer: "transformers.PreTrainedTokenizerBase",
        decoding: Decoding,
        config: EngineConfig,
    ) -> None:
        super().__init__(decoding)
        assert config.url is not None
        self._url = config.url.rstrip("/")
        self._timeout_s = config.timeout_s
        self._model = model
        self._tokenizer = tokenizer
        self._end_tokens = decoding.end_tokens(model.end_token_owners, tokenizer)
        self._dialect: Dialect | None = None
        self._counts = False
        # A line for each request.
        logging.getLogger("httpx").setLevel(logging.WARNING)

    @classmethod
    def locate(cls, config: EngineConfig) -> ServedModel:
        """What the server says that it serves; `UserError` where it says nothing."""
        return identify(config)

    def open(self, windows: Sequence[Sequence[Prompt]], *, at_once: int) -> bool:
        """Find out which fields the server takes; raises `UserError` where it takes none, and where
        it makes another prompt of the first than the model's tokenizer does."""
        self.generate((), at_once=1, seed=0, max_new_tokens=1)
        if windows and not self._counts:
            self._compare_prompt(windows[0][0])
        return False

    def prepare(self, windows: Sequence[Sequence[Prompt]], *, at_once: int) -> None:
        """The server has compiled what it compiles."""

    def facts(self) -> dict[str, Any]:
        """What the server says of itself."""
        return {
            "served_model": self._model.id,
            "software": self._model.software,
            "fields": None if self._dialect is None else self._dialect.value,
            "proven": False,
            "output_tokens": "the server's usage; of a text that was cut, the tokenizer's count",
        }

    def decode(self, window: Window) -> Generator[Ended]:
        """Have the prompts answered, so many requests in flight. Raises `UserError` for a request
        that fails, is not answered, or is answered otherwise than asked."""
        with asyncio.Runner() as runner:
            told = self._decode(window)

            async def following() -> Ended | None:
                return await anext(told, None)

            try:
                while (ended := runner.run(following())) is not None:
                    yield ended
            finally:
                runner.run(told.aclose())

    async def _decode(self, window: Window) -> AsyncGenerator[Ended, None]:
        import httpx

        opened_s, at_once = perf_counter(), window.at_once
        room = asyncio.Semaphore(at_once)
        limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
        asked: dict[int, _Answer] = {}
        async with httpx.AsyncClient(timeout=self._timeout_s, limits=limits) as client:
            if self._dialect is None:
                self._dialect = await self._find_dialect(client)

            async def ask(number: int, arrives_s: float | None) -> tuple[int, Completion]:
                prompt = window.prompts[number]
                await asyncio.sleep(opened_s + (arrives_s or 0.0) - perf_counter())
                async with room:
                    asked[number] = _Answer(sent_s=perf_counter(), arrived_s=arrives_s)
                    await self._ask(client, prompt, window, asked[number])
                answer = asked.pop(number)
                return number, self._completion(prompt, answer, opened_s, window.max_new_tokens)

            tasks = [
                asyncio.ensure_future(ask(number, arrives_s))
                for number, arrives_s in enumerate(window.each_arrival_s)
            ]
            try:
                for task in asyncio.as_completed(tasks):
                    ended = await task
                    yield Ended(
                        completions=dict([ended]),
                        running=tuple(
                            answer.running(window.prompts[number], opened_s)
                            for number, answer in asked.items()
                        ),
                        clock=perf_counter() - opened_s,
                    )
            finally:
                for each in tasks:
                    each.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _find_dialect(self, client: "httpx.AsyncClient") -> Dialect:
        """Try the fields of each family; the first that the server accepts."""
        probe = Prompt(task_id="probe", sample=0, text="a", add_special_tokens=True)
        refusal: UserError | None = None
        for dialect in Dialect:
            try:
                async for event in self._stream(client, probe, dialect, seed=0, max_new_tokens=1):
                    self._counts = self._counts or bool(event.get("usage"))
            except UserError as error:
                refusal = refusal or error
            else:
                return dialect
        assert refusal is not None
        raise refusal

    def _compare_prompt(self, prompt: Prompt) -> None:
        """Ask for the tokens of a prompt without a stream: llama-cpp-python counts none in one."""
        import httpx

        assert self._dialect is not None
        fields = self._body(prompt, self._dialect, seed=0, max_new_tokens=1) | {"stream": False}
        fields.pop("stream_options", None)
        try:
            told = httpx.post(f"{self._url}/completions", json=fields, timeout=self._timeout_s)
            usage = told.json().get("usage") or {}
        except (httpx.HTTPError, ValueError, AttributeError):
            return  # not known of this server
        self._prompt_tokens(prompt, _Answer(sent_s=0.0, arrived_s=None, usage=usage))

    def _body(
        self, prompt: Prompt, dialect: Dialect, *, seed: int, max_new_tokens: int
    ) -> dict[str, Any]:
        return body(
            prompt,
            model=self._model.id,
            generation=self._decoding.generation,
            dialect=dialect,
            max_tokens=max_new_tokens,
            fixed_length=self._decoding.fixed_length,
            end_tokens=self._end_tokens,
            seed=seed,
        )

    async def _stream(
        self,
        client: "httpx.AsyncClient",
        prompt: Prompt,
        dialect: Dialect,
        *,
        seed: int,
        max_new_tokens: int,
    ) -> AsyncIterator[dict[str, Any]]:
        """The events of one request; UserError for anything that is not an answer."""
        import httpx

        fields = self._body(prompt, dialect, seed=seed, max_new_tokens=max_new_tokens)
        try:
            async with client.stream("POST", f"{self._url}/completions", json=fields) as response:
                if response.status_code != httpx.codes.OK:
                    text = (await response.aread()).decode(errors="replace")
                    raise self._failure(prompt, f"{response.status_code} {text[:300]}")
                async for line in response.aiter_lines():
                    event = _event(line)
                    if event is None:
                        continue
                    if "error" in event:
                        raise self._failure(prompt, str(event["error"])[:300])
                    yield event
        except (httpx.HTTPError, ValueError) as error:
            raise self._failure(prompt, f"{type(error).__name__}: {error}") from error

    async def _ask(
        self,
        client: "httpx.AsyncClient",
        prompt: Prompt,
        window: Window,
        answer: _Answer,
    ) -> None:
        """Have one prompt answered; what comes goes into `answer`."""
        assert self._dialect is not None
        stop = self._decoding.text_stop(prompt)
        events = self._stream(
            client,
            prompt,
            self._dialect,
            seed=seed_of(window.seed, prompt),
            max_new_tokens=window.max_new_tokens,
        )
        async for event in events:
            for choice in event.get("choices") or ():
                answer.told = choice.get("finish_reason") or answer.told
                piece = choice.get("text") or ""
                if piece:
                    answer.last_s = perf_counter()
                    answer.first_s = answer.first_s or answer.last_s
                    answer.text += piece
                    stop.feed(piece)
            answer.usage = event.get("usage") or answer.usage
            if stop.reason is not None:
                answer.ended, answer.kept = stop.reason, stop.kept
                # The connection is closed, and with it the server's work on the request.
                await events.aclose()  # type: ignore[attr-defined]
                break

    def _completion(
        self, prompt: Prompt, answer: _Answer, opened_s: float, max_new_tokens: int
    ) -> Completion:
        """The answer as one; UserError where it is none."""
        if answer.ended is None and answer.told is None:
            raise self._failure(prompt, "the stream ended without saying why")
        prompt_tokens = self._prompt_tokens(prompt, answer)
        output_tokens = self._output_tokens(prompt, answer, max_new_tokens)
        first_s = answer.first_s or perf_counter()
        last_s = answer.last_s or first_s
        reason = answer.ended or (
            FinishReason.length if answer.told == "length" else FinishReason.eos
        )
        return Completion(
            task_id=prompt.task_id,
            sample=prompt.sample,
            text=answer.text[: answer.kept],
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            finish_reason=reason,
            pace=Pace.in_seconds(
                opened_s, answer.sent_s, first_s, last_s, arrived_s=answer.arrived_s
            ),
        )

    def _prompt_tokens(self, prompt: Prompt, answer: _Answer) -> int:
        ids = self._tokenizer(prompt.text, add_special_tokens=prompt.add_special_tokens)
        own = len(ids["input_ids"])
        told = answer.usage.get("prompt_tokens", own)
        if told == own:
            return own
        raise UserError(
            f"{prompt.task_id}: the server counts {told} tokens in the prompt, and the model's "
            f"tokenizer {own}. "
            + (
                "It puts a BOS in front of a prompt that has one"
                if told == own + 1
                else "It serves another model than the configuration names, or cuts prompts"
            )
            + "; choose a server that leaves prompts as they are (vllm serve), or the model that "
            "it serves"
        )

    def _output_tokens(self, prompt: Prompt, answer: _Answer, max_new_tokens: int) -> int:
        told = answer.usage.get("completion_tokens") if answer.ended is None else None
        if told is None:
            ids = self._tokenizer(answer.text, add_special_tokens=False)["input_ids"]
            # An end token leaves no text.
            told = len(ids) + (answer.ended is None and answer.told != "length")
        if told == 0:
            raise self._failure(prompt, "it answers with no token at all")
        if self._decoding.fixed_length and told != max_new_tokens:
            raise UserError(
                f"{prompt.task_id}: {told} tokens came, and model.weights=random asks for exactly "
                f"{max_new_tokens}: this server ends sequences by itself (it knows neither "
                "ignore_eos and min_tokens nor transformers' generation_config); use real weights, "
                "or another engine"
            )
        return told

    def _failure(self, prompt: Prompt, what: str) -> UserError:
        return UserError(
            f"{prompt.task_id}: the server at {self._url} gives no answer ({what}); look at its "
            "log, and run the job again, which continues after the requests that are done"
        )


def _event(line: str) -> dict[str, Any] | None:
    """One line of a stream of events; None for one that holds none."""
    if not line.startswith("data:"):
        return None
    data = line.removeprefix("data:").strip()
    if not data or data == _DONE:
        return None
    event: dict[str, Any] = json.loads(data)
    return event
