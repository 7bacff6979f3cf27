"""A run is another one as soon as something is asked, read or set that can change its results."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from codejoule.config import ConfigError, checkout, conf_folder
from codejoule.config.compose import register_schemas
from codejoule.config.schema import (
    ExperimentConfig,
    GenerationConfig,
    ModelConfig,
    QuantConfig,
    SuiteConfig,
    Variant,
)
from codejoule.config.typed import from_plain, to_experiment, to_plain
from codejoule.experiment.identity import configuration, identity
from codejoule.experiment.plan import Plan, make_plan
from codejoule.models import tokenizer
from codejoule.suites import prompts
from tests.experiment.job import run_main, runs_of

STARTER = checkout() / "src/codejoule/models/starter/none"
TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The starter model as somebody's own, with a chat template."""
    made = tmp_path / "my-coder"
    shutil.copytree(STARTER, made)
    (made / "chat_template.jinja").write_text(TEMPLATE)
    return made


@pytest.fixture
def plan_of() -> Callable[..., Plan]:
    def make(*overrides: str) -> Plan:
        register_schemas()
        fixed = ["device=cpu", "evaluator=none", "suite.limit=3"]
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            return make_plan(to_experiment(compose("config", [*fixed, *overrides])))

    return make


def test_an_edited_chat_template_makes_another_run(
    folder: Path, plan_of: Callable[..., Plan]
) -> None:
    own = ("model.weights=local", f"model.path={folder}")
    before = plan_of(*own)
    assert before.experiment.model.variant is Variant.instruct, "it has a chat template"
    (folder / "README.md").write_text("A model.")
    assert plan_of(*own).fingerprint == before.fingerprint
    (folder / "chat_template.jinja").write_text("You are terse. " + TEMPLATE)
    after = plan_of(*own)
    assert after.fingerprint != before.fingerprint
    assert all(
        p.text == f"You are terse. {before.prompts[t].text}" for t, p in after.prompts.items()
    )
    (folder / "chat_template.jinja").unlink()
    assert plan_of(*own).experiment.model.variant is Variant.base


@pytest.mark.parametrize(
    "change",
    [
        (tokenizer, "_CHAT", TEMPLATE),
        (prompts, "_INSTRUCTION", "Write a program:"),
        (prompts, "_RESPONSE", "Here it is:"),
    ],
    ids=["chat template", "instruction", "begun answer"],
)
def test_the_words_around_a_task_are_part_of_what_a_run_is(
    change: tuple[object, str, str], plan_of: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("model=qwen_0_5b", "model.weights=random")
    before = plan_of(*asked)
    assert plan_of(*asked).fingerprint == before.fingerprint
    monkeypatch.setattr(*change)
    after = plan_of(*asked)
    assert after.checkpoint.checksum == before.checkpoint.checksum
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("suite.stop", ["x"]), ("suite.stop_base", ["x"]), ("suite.split", "instruct"),
        ("suite.name", "other"), ("generation.max_new_tokens", 99), ("generation.stop", "complete"),
        ("generation.seed", 1), ("model.dtype", "float16"), ("model.variant", "instruct"),
        ("model.name", "other"), ("model.random_seed", 1), ("quant.sym", False),
        ("quant.kernel", "torch"), ("batch.size", 2), ("batch.order", "length"),
        ("engine.name", "graph"), ("engine.warmup_batches", 0), ("repeat", 2),
        ("meter.cpu_watts_per_core", 5.0), ("evaluator.memory_bytes", 2**21),
    ],
)  # fmt: skip
def test_a_setting_that_can_change_a_result_makes_another_run(key: str, value: object) -> None:
    model = ModelConfig(name="mine", variant=Variant.instruct if "suite" in key else Variant.base)
    before = ExperimentConfig(
        model=model,
        quant=QuantConfig(name="none"),
        generation=GenerationConfig(name="greedy"),
        suite=SuiteConfig(name="own"),
    )
    plain = to_plain(before)
    *groups, last = key.split(".")
    place = plain[groups[0]] if groups else plain
    assert place[last] != value
    place[last] = value
    assert identity(from_plain(plain), {}) != identity(before, {})
    assert configuration(from_plain(plain)) != configuration(before)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('System role not supported') }}", "System role not supported"),
        ("{% for m in messages %}", "Unexpected end of template"),
        ("{{ messages[7].content }}", "has no element 7"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 'a' + 1 }}", "can only concatenate str"),
    ],
)
def test_a_chat_template_that_raises_is_one_sentence_before_anything_is_loaded(
    template: str, said: str, folder: Path, plan_of: Callable[..., Plan]
) -> None:
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ConfigError) as caught:
        plan_of("model.weights=local", f"model.path={folder}")
    text = str(caught.value)
    assert text.startswith("model.variant=instruct: the tokenizer renders no chat (")
    assert said in text and "set model.variant=base" in text


@pytest.mark.slow
def test_a_run_of_ones_own_model_has_its_name_and_stops_where_its_logits_are_nan(
    folder: Path, store: Path
) -> None:
    from safetensors.torch import load_file, save_file

    (folder / "chat_template.jinja").unlink()
    jobs = ("model.weights=local", f"model.path={folder}", "suite.limit=2", "evaluator=none")
    done = run_main(store, *jobs)
    assert done.returncode == 0, done.stderr
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    spoiled = run_main(store, "-m", *jobs, "generation=greedy,sample")
    assert spoiled.returncode == 1
    assert "Traceback" not in spoiled.stderr
    runs = [run for run in runs_of("codejoule", store) if run.data.params]
    good, *bad = sorted(runs, key=lambda run: run.info.start_time)
    assert {run.info.run_name for run in runs} == {"my-coder-none-b1", "my-coder-none-b1-sample"}
    assert good.info.status == "FINISHED"
    assert good.data.params["model.name"] == "my-coder"
    assert good.data.params["model.variant"] == "base"
    assert "model.cpu_threads" not in good.data.params, "null"
    assert len(bad) == 2
    for run in bad:
        assert run.info.status == "FAILED" and not run.data.metrics
        assert "the model's logits are NaN or infinite" in run.data.tags["codejoule.error"]
