"""The bundled model: what ships is whole, anonymous, remakeable, and solves what it should."""

import hashlib
import json
import unittest
from pathlib import Path
from typing import Any

import pytest

import codejoule.models
import codejoule.suites
from codejoule.config.schema import ModelConfig
from codejoule.models import bundled_calibration_texts
from tools.starter.suite import training_texts
from tools.starter.suite.sampling import draw_corpus
from tools.starter.training import END, PAD, Recipe, save, train, train_tokenizer

CHECKPOINTS = Path(codejoule.models.__file__).parent / "starter"
SUITE = Path(codejoule.suites.__file__).parent / "data" / "starter.jsonl"
QUANTS = ("none", "gptq8", "gptq4", "awq")


def passes(row: dict[str, str], completion: str) -> bool:
    """Whether the tests of `row` accept `completion`; for text of our own model only."""
    source = f"{row['code_prompt']}\n    pass\n{row['complete_prompt']}{completion}\n{row['test']}"
    namespace: dict[str, Any] = {"__name__": "__test__"}
    try:
        exec(source, namespace)
    except Exception:
        return False
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(namespace["TestCases"]).run(result)
    return result.testsRun > 0 and result.wasSuccessful()


def complete(folder: Path, prompts: list[str], *, batch: int = 32, tokens: int = 200) -> list[str]:
    """Greedy continuations on one thread."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    config = AutoConfig.from_pretrained(folder)
    if getattr(config, "quantization_config", {}).get("bits") == 8:
        # The default of gptqmodel 7.6 for 8 bits compiles for most of a minute.
        config.quantization_config["backend"] = "gptq_torch_int8"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32)
    texts = []
    for start in range(0, len(prompts), batch):
        part = tokenizer(prompts[start : start + batch], return_tensors="pt", padding=True)
        made = model.generate(**part, max_new_tokens=tokens, do_sample=False)
        made = made[:, part["input_ids"].shape[1] :]
        texts += tokenizer.batch_decode(made, skip_special_tokens=True)
    torch.set_num_threads(threads)
    return texts


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return [json.loads(line) for line in SUITE.open(encoding="utf-8")]


@pytest.fixture(scope="module")
def completions(rows) -> list[str]:
    return complete(CHECKPOINTS / "none", [row["complete_prompt"] for row in rows])


@pytest.mark.slow
def test_shipped_model_solves_six_to_nine_tasks_in_ten(rows, completions):
    solved = [passes(*pair) for pair in zip(rows, completions, strict=True)]
    assert 0.6 <= sum(solved) / len(solved) <= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("quant", ["gptq8", "gptq4", "awq"])
def test_quantized_models_mostly_write_what_the_model_writes(quant, rows, completions):
    some = slice(0, 24)
    quantized = complete(CHECKPOINTS / quant, [row["complete_prompt"] for row in rows[some]])
    same = sum(a == b for a, b in zip(completions[some], quantized, strict=True))
    assert same >= 12


def test_batches_do_not_change_what_is_solved(rows, completions):
    prompts = [row["complete_prompt"] for row in rows[:6]]
    assert complete(CHECKPOINTS / "none", prompts, batch=1) == completions[:6]


@pytest.mark.parametrize("quant", QUANTS)
def test_checkpoint_is_whole_small_and_anonymous(quant):
    folder = CHECKPOINTS / quant
    names = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
             "tokenizer_config.json"}  # fmt: skip
    assert names <= {file.name for file in folder.iterdir()}
    assert (folder / "model.safetensors").stat().st_size <= 1_500_000
    for file in folder.glob("*.json"):
        text = file.read_text(encoding="utf-8")
        for trace in ("/home", "/tmp", "/root", str(Path.cwd()), "_name_or_path", "task_func("):
            assert trace not in text, (file, trace)


def test_provenance_names_the_weights_that_ship():
    provenance = json.loads((CHECKPOINTS / "PROVENANCE.json").read_text(encoding="utf-8"))
    for quant in QUANTS:
        weights = (CHECKPOINTS / quant / "model.safetensors").read_bytes()
        assert provenance["sha256"][quant] == hashlib.sha256(weights).hexdigest()
    assert provenance["recipe"] == Recipe().as_dict()
    assert 350_000 < provenance["parameters"] < 450_000


def test_provenance_names_the_corpus():
    from tools.starter.make import CALIBRATION_TEXTS, digest

    provenance = json.loads((CHECKPOINTS / "PROVENANCE.json").read_text(encoding="utf-8"))
    texts = training_texts(CALIBRATION_TEXTS)
    assert provenance["calibration_sha256"] == digest(texts)
    assert bundled_calibration_texts(ModelConfig(name="starter")) == texts


def test_tokenizer_is_the_one_that_was_trained():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINTS / "none")
    assert (tokenizer.eos_token, tokenizer.pad_token) == (END, PAD)
    assert len(tokenizer) == Recipe().vocabulary
    for text in training_texts(50):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.decode(tokenizer("naïve 🦊\tΩ")["input_ids"]) == "naïve 🦊\tΩ"


@pytest.mark.slow
def test_same_seed_gives_the_same_bytes(tmp_path):
    pairs = [(prompt, body) for prompt, body, _ in draw_corpus(160)]
    recipe = Recipe(layers=1, batch=16, warmup_steps=2)
    losses: list[float] = []
    for name in ("first", "second"):
        trained = train(pairs, recipe=recipe, report=lambda *args: losses.append(args[2]))
        save(trained, tmp_path / name)
    files = sorted(file.name for file in (tmp_path / "first").iterdir())
    assert "model.safetensors" in files
    for name in files:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert len(losses) == 20
    assert losses[9] < losses[0]


@pytest.mark.slow
def test_whole_recipe_leaves_a_checkpoint_with_its_provenance(tmp_path):
    from tools.starter.make import make_model

    for name in ("first", "second"):
        make_model(tmp_path / name, programs=64)
    provenance = (tmp_path / "first" / "PROVENANCE.json").read_text(encoding="utf-8")
    assert provenance == (tmp_path / "second" / "PROVENANCE.json").read_text(encoding="utf-8")
    facts = json.loads(provenance)
    assert (facts["corpus_programs"], facts["steps"]) == (64, 2)
    assert str(tmp_path) not in provenance
    weights = (tmp_path / "first" / "none" / "model.safetensors").read_bytes()
    assert facts["sha256"] == {"none": hashlib.sha256(weights).hexdigest()}


def test_another_seed_gives_another_model(tmp_path):
    pairs = [(prompt, body) for prompt, body, _ in draw_corpus(32)]
    weights = []
    for seed in (0, 1):
        save(train(pairs, recipe=Recipe(layers=1, batch=16, seed=seed)), tmp_path / str(seed))
        weights.append((tmp_path / str(seed) / "model.safetensors").read_bytes())
    assert weights[0] != weights[1]


def test_training_leaves_torch_as_it_was():
    import torch

    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    state = torch.random.get_rng_state()
    train([("a", "b")] * 16, recipe=Recipe(layers=1, batch=16))
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
    assert torch.equal(torch.random.get_rng_state(), state)


def test_tokenizer_training_keeps_qwen2_pre_tokenization():
    tokenizer = train_tokenizer(["def task_func(values):\n    return values"] * 3, vocabulary=300)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.tokenize("12") == ["1", "2"]
