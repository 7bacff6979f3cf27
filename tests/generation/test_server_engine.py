import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from codejoule.config import UserError
from codejoule.config.schema import EngineConfig, GenerationConfig
from codejoule.domain import Completion, Prompt
from codejoule.domain.engines import EngineName
from codejoule.generation import Decoding, ServedModel
from codejoule.generation.generate import GenerateEngine
from codejoule.generation.server import ServerEngine
from codejoule.generation.server.identity import identify
from tests.generation.served import (
    STARTER,
    Answer,
    event,
    free_port,
    told_server,
    transformers_serve,
)

GREEDY = GenerationConfig(name="greedy")
SAMPLE = GenerationConfig(name="sample", do_sample=True, temperature=1.0, top_p=0.9)
STOPS = ("\n    return", "+ 1")


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`transformers serve` with the bundled model."""
    with transformers_serve(STARTER, tmp_path_factory.mktemp("serve") / "log") as (url, _):
        yield url


@pytest.fixture(scope="session")
def starter() -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(STARTER, padding_side="left")
    return AutoModelForCausalLM.from_pretrained(STARTER).eval(), tokenizer


@pytest.fixture(scope="session")
def tasks() -> list[Prompt]:
    """Prompts of the bundled suite, and their beginnings alone, which leads elsewhere."""
    from codejoule.config.schema import SuiteConfig
    from codejoule.suites import load_suite

    suite = load_suite(SuiteConfig(name="starter"))
    texts = [task.complete_prompt for task in suite.tasks[:16]]
    texts += [text[: len(text) // 3] for text in texts[:8]]
    return [
        Prompt(task_id=f"served/{i}", sample=0, text=text, add_special_tokens=True)
        for i, text in enumerate(texts)
    ]


def _program_end(prompt: Prompt) -> Callable[[str], int | None]:
    seen: list[str] = []

    def feed(piece: str) -> int | None:
        seen.append(piece)
        every_third = int(prompt.task_id.partition("/")[2]) % 3 == 0
        return 20 if every_third and len("".join(seen)) >= 30 else None

    return feed


OPTIONS: dict[str, Any] = {
    "generation": GREEDY,
    "stop": STOPS,
    "max_new_tokens": 48,
}


def engine_at(url: str, model: str, tokenizer: Any, **changes: Any) -> ServerEngine:
    config = EngineConfig(name=EngineName.server, url=url, served_model=model, timeout_s=30)
    served = ServedModel(id=model, software="test")
    return ServerEngine(served, tokenizer, Decoding(**(OPTIONS | changes)), config)


def ask(engine: Any, prompts: list[Prompt], at_once: int = 4) -> list[Completion]:
    decoded = engine.generate(prompts, at_once=at_once, seed=0, mark=lambda name: None)
    return [replace(completion, pace=None) for completion in decoded.completions]


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 5])
def test_a_real_server_gives_the_same_text_as_generate(
    at_once: int, served: str, starter: tuple[Any, Any], tasks: list[Prompt]
) -> None:
    model, tokenizer = starter
    reference = GenerateEngine(model, tokenizer, Decoding(program_end=_program_end, **OPTIONS))
    wanted = [c for prompt in tasks for c in ask(reference, [prompt], 1)]
    ends = Counter(c.finish_reason.value for c in wanted)
    assert len(ends) >= 3, ends
    found = ask(
        engine_at(served, str(STARTER), tokenizer, program_end=_program_end), tasks, at_once
    )
    for one, other in zip(wanted, found, strict=True):
        assert (one.text, one.finish_reason) == (other.text, other.finish_reason)
        assert one.prompt_tokens == other.prompt_tokens
        # Text comes in words: a sequence that its text ends may have had some tokens more.
        assert (
            0
            <= other.output_tokens - one.output_tokens
            <= (0 if one.finish_reason.value in ("eos", "length") else 8)
        )


def test_requests_in_flight_are_as_many_as_asked_for(
    served: str, starter: tuple[Any, Any], tasks: list[Prompt]
) -> None:
    engine = engine_at(served, str(STARTER), starter[1])
    decoded = engine.generate(tasks[:9], at_once=3, seed=0, mark=pytest.fail)
    spans = [(c.pace.begin, c.pace.end) for c in decoded.completions if c.pace]
    assert len(spans) == 9 and decoded.positions is None
    assert max(sum(b <= begin < e for b, e in spans) for begin, _ in spans) == 3
    assert all(c.pace and 0 < c.pace.ttft_s < c.pace.end for c in decoded.completions)


def test_requests_are_sent_when_they_have_arrived_and_queue_for_a_place(tokenizer: Any) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, list[str]]:
        time.sleep(0.2 if body["max_tokens"] > 1 else 0)
        return 200, [event("a"), event("", "stop")]

    prompts = [Prompt(task_id=f"t/{n}", sample=0, text="b", add_special_tokens=False)
               for n in range(4)]  # fmt: skip
    arrivals_s = (0.1, 0.5, 0.51, 0.52)
    with told_server(answer) as url:
        engine = engine_at(url, "told", tokenizer, stop=())
        engine.open((), at_once=1)
        found = engine.generate(prompts, at_once=1, seed=0, arrivals_s=arrivals_s)
    paces = [c.pace for c in found.completions if c.pace is not None]
    assert [pace.arrived_s for pace in paces] == list(arrivals_s)
    assert 0.1 <= paces[0].begin < 0.4 and paces[1].begin >= 0.5, "there is nothing to do between"
    queue = paces[1:]
    assert all(one.end <= other.begin for one, other in pairwise(queue)), "one at a time"
    # Two others' 0.2 s stand before the last.
    assert queue[-1].ttft_s == pytest.approx(queue[-1].first - 0.52) and queue[-1].ttft_s > 0.5


def test_a_seed_draws_the_same_samples_one_request_at_a_time(
    served: str, starter: tuple[Any, Any], tasks: list[Prompt]
) -> None:
    engine = engine_at(served, str(STARTER), starter[1], generation=SAMPLE, stop=())
    draw = partial(engine.generate, tasks[16:20], at_once=1, mark=lambda name: None)
    first, again, other = ([c.text for c in draw(seed=s).completions] for s in (1, 1, 2))
    assert first == again != other


def test_a_fixed_length_is_exact_on_transformers_serve(
    served: str, starter: tuple[Any, Any], tasks: list[Prompt]
) -> None:
    engine = engine_at(served, str(STARTER), starter[1], fixed_length=True, max_new_tokens=40)
    assert {c.output_tokens for c in ask(engine, tasks[:3])} == {40}
    assert engine.facts()["fields"] == "transformers"


def test_the_end_of_a_server_is_an_error(
    tmp_path: Path, starter: tuple[Any, Any], tasks: list[Prompt]
) -> None:
    with told_server(lambda body: (200, [event("a", "stop")])) as url:
        engine = engine_at(url, "told", starter[1])
        ask(engine, tasks[:1])
    with pytest.raises(UserError) as caught:
        ask(engine, tasks[:1])
    assert str(caught.value).startswith(f"served/0: the server at {url} gives no answer (Connect")


ENDED = event("x", "stop", prompt_tokens=3, completion_tokens=2)
ABC = [Prompt(task_id="t/0", sample=0, text="abc", add_special_tokens=True)]


def after_probe(lines: list[str], status: int = 200) -> Answer:
    """Answers the trial request as it should be, and later ones with `lines`."""
    return lambda body: (200, [ENDED]) if body["prompt"] == "a" else (status, lines)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (after_probe(["out of paper"], 500), "gives no answer (500 out of paper"),
        (after_probe(['data: {"error": "engine died"}']), "gives no answer (engine died)"),
        (after_probe([event("x")]), "gives no answer (the stream ended without saying why)"),
        (after_probe(["data: {"]), "gives no answer (JSONDecodeError"),
        (
            after_probe([event("", "length", prompt_tokens=3, completion_tokens=0)]),
            "gives no answer (it answers with no token at all)",
        ),
        (
            after_probe([event("x", "stop", prompt_tokens=4, completion_tokens=2)]),
            "counts 4 tokens in the prompt, and the model's tokenizer 3. It puts a BOS in front",
        ),
        (
            after_probe([event("x", "stop", prompt_tokens=9, completion_tokens=2)]),
            "counts 9 tokens in the prompt, and the model's tokenizer 3. It serves another model",
        ),
    ],
)
def test_what_is_no_answer_is_an_error(answer: Answer, said: str, tokenizer: Any) -> None:
    with told_server(answer) as url, pytest.raises(UserError) as caught:
        ask(engine_at(url, "told", tokenizer), ABC)
    assert said in str(caught.value)


@pytest.mark.parametrize(("counted", "refused"), [(3, False), (4, True), (None, False)])
def test_a_server_that_counts_nothing_in_a_stream_is_asked_once_without(
    counted: int | None, refused: bool, tokenizer: Any
) -> None:
    streams: list[bool] = []

    def answer(body: dict[str, Any]) -> tuple[int, list[str]]:
        streams.append(body["stream"])
        usage = {} if counted is None else {"usage": {"prompt_tokens": counted}}
        return 200, [event("x", "stop") if body["stream"] else json.dumps(usage)]

    expected = pytest.raises(UserError, match="puts a BOS in front") if refused else nullcontext()
    with told_server(answer) as url, expected:
        engine_at(url, "told", tokenizer).open([ABC], at_once=1)
    assert streams == [True, False]


def test_fields_are_those_that_the_server_takes(tokenizer: Any) -> None:
    bodies: list[dict[str, Any]] = []
    known = {"model", "prompt", "max_tokens", "temperature", "top_p", "seed", "stream"}
    known |= {"frequency_penalty"}

    def only(names: set[str], body: dict[str, Any]) -> tuple[int, list[str]]:
        bodies.append(body)
        return (200, [ENDED]) if set(body) <= names else (422, ["unexpected"])

    families = {
        "extended": {
            "stream_options",
            "repetition_penalty",
            "repeat_penalty",
            "add_special_tokens",
            "top_k",
            "min_p",
        },
        "transformers": {"generation_config"},
        "plain": set(),
    }
    for name, extra in families.items():
        bodies.clear()
        with told_server(partial(only, known | extra)) as url:
            engine = engine_at(url, "told", tokenizer, generation=SAMPLE)
            ask(engine, [replace(ABC[0], add_special_tokens=False)])
        assert engine.facts()["fields"] == name
        last = bodies[-1]
        assert (last["temperature"], last["frequency_penalty"], last["stream"]) == (1.0, 0.0, True)
        if name == "extended":
            assert last["add_special_tokens"] is False and last["top_k"] == 0
            assert (last["repeat_penalty"], last["min_p"]) == (1.0, 0.0), "llama.cpp's are others"
            assert last["stream_options"] == {"include_usage": True}
        if name == "transformers":
            settings = json.loads(last["generation_config"])
            assert settings["do_sample"] is True and settings["top_k"] == 0
            assert settings["eos_token_id"] == [tokenizer.eos_token_id]


def test_a_server_that_ends_sequences_by_itself_has_no_fixed_length(tokenizer: Any) -> None:
    with told_server(lambda body: (200, [ENDED])) as url, pytest.raises(UserError) as caught:
        ask(engine_at(url, "told", tokenizer, fixed_length=True), ABC)
    assert "2 tokens came, and model.weights=random asks for exactly 48" in str(caught.value)


def test_without_usage_tokens_are_counted_by_the_tokenizer(tokenizer: Any) -> None:
    with told_server(lambda body: (200, [event("four"), event("", "stop")])) as url:
        (found,) = ask(engine_at(url, "told", tokenizer), ABC)
    assert (found.text, found.output_tokens) == ("four", 5), "and its end token"


def test_what_is_served_is_asked_for_and_must_be_clear() -> None:
    config = partial(EngineConfig, name=EngineName.server)
    with told_server(lambda body: (200, []), models=["only"]) as url:
        assert identify(config(url=url)) == ServedModel(
            id="only", software=identify(config(url=url)).software
        )
    with told_server(lambda body: (200, []), models=["one", "two"]) as url:
        assert identify(config(url=url, served_model="two")).id == "two"
        with pytest.raises(UserError) as caught:
            identify(config(url=url))
    assert str(caught.value) == (
        f"engine.served_model=null: {url}/models lists one, two (status 200); name the one that "
        "the server at this address serves"
    )
    gone = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(UserError) as caught:
        identify(config(url=gone))
    assert str(caught.value).startswith(f"engine.url={gone}: no server answers at {gone}/models")
