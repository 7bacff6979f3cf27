"""The engine ``vllm``: its process, the pipe to it and the proof, around a stand-in for vLLM; and
the real one where it is installed (slow)."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from codejoule.config import UserError
from codejoule.config.schema import EngineConfig, GenerationConfig, Method, QuantConfig
from codejoule.domain import Completion, FinishReason, Prompt
from codejoule.domain.engines import EngineName
from codejoule.generation import Decoding, ModelSource, ServedModel
from codejoule.generation.vllm.engine import VllmEngine
from codejoule.generation.vllm.environment import VARIABLE, find_vllm

FAKE = Path(__file__).parent / "fake_vllm"
GREEDY = GenerationConfig(name="greedy")
SAMPLE = GenerationConfig(name="sample", do_sample=True, temperature=1.0, n_samples=2)
NONE = QuantConfig(name="none")
GPTQ = QuantConfig(name="gptq4", method=Method["gptq"], bits=4, group_size=128)
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def prompt(text: str, number: int = 0, sample: int = 0) -> Prompt:
    return Prompt(task_id=f"t/{number}", sample=sample, text=text, add_special_tokens=False)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tokenizer: Any) -> Callable[..., None]:
    """Puts the stand-in in place; what goes wrong is said by name."""
    letters = tokenizer(ALPHABET, add_special_tokens=False)["input_ids"]

    def put(**wrong: Any) -> None:
        monkeypatch.setenv("PYTHONPATH", str(FAKE))
        monkeypatch.setenv("FAKE_VLLM", json.dumps({"letters": letters, **wrong}))

    put()
    return put


@contextmanager
def engine_of(
    tokenizer: Any,
    *,
    prompts: Sequence[Prompt],
    at_once: int = 4,
    quant: QuantConfig = NONE,
    decoding: dict[str, Any] | None = None,
    **keys: Any,
) -> Iterator[VllmEngine]:
    source = ModelSource(
        folder=Path("nowhere"),
        random_seed=0,
        quant=quant,
        dtype="float32",
        device="cpu",
        gpus=(),
        cpu_threads=1,
        vocabulary=320,
        context_tokens=256,
        kv_cache_bytes=None,
    )
    config = EngineConfig(name=EngineName.vllm, python=sys.executable, **keys)
    located = VllmEngine.locate(config)
    options = {"generation": GREEDY, "max_new_tokens": 40, **(decoding or {})}
    engine = VllmEngine(
        ServedModel(id=located.id, software=located.software, source=source),
        tokenizer,
        Decoding(**options),
        config,
    )
    try:
        engine.open([prompts], at_once=at_once)
        engine.prepare([prompts], at_once=at_once)
        yield engine
    finally:
        engine.close()


def counted(tokenizer: Any, asked: str, tokens: int) -> str:
    """What the stand-in writes after a prompt."""
    begin = sum(tokenizer(asked, add_special_tokens=False)["input_ids"])
    return "".join(ALPHABET[(begin + i) % 26] for i in range(tokens))


def decode(engine: VllmEngine, prompts: Sequence[Prompt], at_once: int) -> list[Completion]:
    return list(engine.generate(prompts, at_once=at_once, seed=7).completions)


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("at_once", [1, 3, 16])
def test_texts_ends_and_counts_are_found_as_with_every_engine(tokenizer: Any, at_once: int) -> None:
    prompts = [prompt("x" * n, n) for n in range(1, 10)]

    def program_end(asked: Prompt) -> Callable[[str], int | None]:
        seen: list[str] = []

        def feed(piece: str) -> int | None:
            seen.append(piece)
            return 5 if len(asked.text) == 4 and len("".join(seen)) >= 7 else None

        return feed

    stops = {"stop": ("zab",), "program_end": program_end}
    with engine_of(tokenizer, prompts=prompts, at_once=at_once, decoding=stops) as engine:
        completions = decode(engine, prompts, at_once)
    for asked, found in zip(prompts, completions, strict=True):
        text = counted(tokenizer, asked.text, 40)
        assert found.task_id == asked.task_id and found.prompt_tokens == len(asked.text)
        if len(asked.text) == 4:
            assert found.finish_reason is FinishReason.complete and found.text == text[:5]
        elif "zab" in text:
            assert found.finish_reason is FinishReason.stop
            assert found.text == text[: text.index("zab")]
            assert found.output_tokens == text.index("zab") + 3
        else:
            assert found.finish_reason is FinishReason.length and found.text == text
        assert found.pace is not None and 0 <= found.pace.begin <= found.pace.first
        assert found.pace.first <= found.pace.end


@pytest.mark.usefixtures("fake")
def test_what_comes_late_for_a_sequence_that_has_ended_is_in_no_other_window(
    tokenizer: Any,
) -> None:
    windows = [[prompt(letter * n, n) for n in (1, 2)] for letter in "abcdefgh"]
    with engine_of(tokenizer, prompts=windows[0], decoding={"stop": ("c",)}) as engine:
        for prompts in windows:
            for asked, found in zip(prompts, decode(engine, prompts, 2), strict=True):
                assert found.text == counted(tokenizer, asked.text, 40).partition("c")[0]
        peak = engine.memory_peak_bytes()
        assert peak is not None and 2**20 < peak < 2**35


@pytest.mark.usefixtures("fake")
def test_a_fixed_length_is_kept_and_told_at_the_end_alone(tokenizer: Any) -> None:
    prompts = [prompt("ab", 0), prompt("cd", 1)]
    fixed = {"fixed_length": True, "max_new_tokens": 11, "stop": ("a",)}
    with engine_of(tokenizer, prompts=prompts, decoding=fixed) as engine:
        completions = decode(engine, prompts, 2)
        assert engine.facts()["slots"] == 2
    assert [c.output_tokens for c in completions] == [11, 11]
    assert all(c.pace is not None and c.pace.end >= c.pace.first for c in completions)


@pytest.mark.slow
@pytest.mark.parametrize("fixed", [False, True], ids=["told by token", "told at the end"])
def test_requests_are_taken_up_when_they_have_arrived_and_a_slot_is_free(
    fake: Callable[..., None], tokenizer: Any, fixed: bool
) -> None:
    fake(step_s=0.005)
    prompts = [prompt("a", n) for n in range(5)]
    arrivals_s = (0.05, 0.3, 0.301, 0.302, 0.5)
    options = {"fixed_length": fixed, "stop": () if fixed else ("zz",)}
    with engine_of(tokenizer, prompts=prompts, at_once=2, decoding=options) as engine:
        found = engine.generate(prompts, at_once=2, seed=7, arrivals_s=arrivals_s)
        again = decode(engine, prompts, 2)
    paces = [c.pace for c in found.completions if c.pace is not None]
    assert [pace.arrived_s for pace in paces] == list(arrivals_s)
    for pace in paces:
        assert pace.arrived_s is not None and pace.begun_s is not None
        assert pace.arrived_s <= pace.begun_s <= pace.first <= pace.end
        assert pace.ttft_s == pytest.approx(pace.first - pace.arrived_s)
        assert sum(p.begin <= pace.begin < p.end for p in paces) <= 2
    assert paces[3].begin >= min(paces[1].end, paces[2].end), "it waits for a slot"
    assert paces[3].ttft_s > 0.1, "and that counts"
    assert [c.text for c in found.completions] == [c.text for c in again]


@pytest.mark.usefixtures("fake")
def test_each_sample_draws_from_a_seed_of_its_own(tokenizer: Any) -> None:
    prompts = [prompt("ab", 0, sample) for sample in range(6)]
    with engine_of(tokenizer, prompts=prompts, decoding={"generation": SAMPLE}) as engine:
        texts = [c.text for c in decode(engine, prompts, 4)]
        assert texts == [c.text for c in decode(engine, prompts, 1)]
    assert len(set(texts)) > 1


WRONG: list[tuple[dict[str, Any], QuantConfig, dict[str, Any], str]] = [
    ({"method": "UnquantizedLinearMethod"}, GPTQ, {}, "asked for GPTQ weights, and vLLM has Unq"),
    ({"method": "AutoGPTQLinearMethod"}, NONE, {}, "asked for Unquantized weights"),
    ({"weight_dtype": "float16"}, NONE, {}, "dtype of layers.0.*asked for float32.*has float16"),
    ({"prefix_caching": True}, NONE, {}, "engine.prefix_caching: asked for False"),
    ({"kv_dtype": "auto"}, NONE, {"kv_dtype": "fp8"}, "engine.kv_dtype: asked for fp8"),
    ({}, NONE, {"speculative": "ngram"}, "engine.speculative: asked for ngram"),
    (
        {"method": "AutoGPTQLinearMethod", "kernel": "MacheteLinearKernel"},
        QuantConfig(name="gptq4", method=Method["gptq"], bits=4, group_size=128, kernel="marlin"),
        {},
        "kernel of layers.0.*asked for marlin, and vLLM has machete",
    ),
    (
        {},
        QuantConfig(name="gptq4", method=Method["gptq"], bits=4, group_size=128, kernel="triton"),
        {},
        "no kernel triton here; choose one of auto, machete, marlin",
    ),
]


@pytest.mark.parametrize(("wrong", "quant", "keys", "said"), WRONG)
def test_what_vllm_has_set_up_is_compared_with_what_was_asked(
    fake: Callable[..., None],
    tokenizer: Any,
    wrong: dict[str, Any],
    quant: QuantConfig,
    keys: dict[str, Any],
    said: str,
) -> None:
    fake(**wrong)
    with (
        pytest.raises(UserError, match=said),
        engine_of(tokenizer, prompts=[prompt("a")], quant=quant, **keys),
    ):
        pass


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("load", r"memory does not suffice.*2\.00 GiB.*lower batch\.size"),
        ("compile", r"memory does not suffice.*cache blocks"),
        (
            "decode",
            r"(?s)status -9.*run the same command again, which continues.*the fake is about to die",
        ),
        ("logits", r"logits are NaN or infinite in the prompt of t/0"),
    ],
)
def test_an_end_of_vllm_is_told_with_its_last_words(
    fake: Callable[..., None], tokenizer: Any, at: str, said: str
) -> None:
    fake(at=at)
    prompts = [prompt("a")]
    with pytest.raises(UserError, match=said), engine_of(tokenizer, prompts=prompts) as engine:
        decode(engine, prompts, 1)


def test_an_error_that_only_speaks_of_the_kv_cache_is_not_taken_for_full_memory(
    fake: Callable[..., None], tokenizer: Any
) -> None:
    fake(at="compile", said="fp8 KV cache is not supported on this platform")
    with (
        pytest.raises(UserError, match=r"vLLM gave up: ValueError: fp8 KV cache.*Mend what it"),
        engine_of(tokenizer, prompts=[prompt("a")]),
    ):
        pass


@pytest.mark.parametrize(("blocks", "told"), [(10, True), (11, False)])
def test_a_cache_that_holds_fewer_tokens_than_a_batch_may_have_is_told(
    fake: Callable[..., None],
    tokenizer: Any,
    caplog: pytest.LogCaptureFixture,
    blocks: int,
    told: bool,
) -> None:
    fake(blocks=blocks)  # of 16 tokens; 4 sequences of 1 + 40 may need 164
    prompts = [prompt("a", n) for n in range(4)]
    with engine_of(tokenizer, prompts=prompts):
        pass
    assert ("tokens, and 4 sequences of up to 41 may need more" in caplog.text) is told


def test_a_missing_or_old_vllm_is_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codejoule.common.environments.environments", lambda: tmp_path)
    for variable in ("PYTHONPATH", VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(
        UserError, match=r"vLLM is not here; build its environment with `codejoule env vllm"
    ):
        find_vllm(None)
    with pytest.raises(UserError, match="has no vLLM; build"):
        find_vllm(sys.executable)
    with pytest.raises(UserError, match=r"engine=vllm: .*nothing cannot be started"):
        find_vllm(str(tmp_path / "nothing"))
    old = tmp_path / "vllm-0.19.1.dist-info"
    old.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.19.1\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UserError, match=r"has vllm 0\.19\.1, which is older than 0\.26"):
        find_vllm(sys.executable)
