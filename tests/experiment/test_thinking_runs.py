"""A model that thinks: its prompts, its tokens and their energy."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir

from codejoule.config import ConfigError, checkout, conf_folder
from codejoule.config.compose import register_schemas
from codejoule.config.typed import to_experiment
from codejoule.experiment.plan import Plan, make_plan
from tests.experiment.job import run_main, runs_of
from tests.generation.test_thinking import HARMONY

STARTER = checkout() / "src/codejoule/models/starter/none"
# As Qwen3's: thinks unless it is told not to, and shows an empty thought with a given answer.
TEMPLATE = """{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.role == 'assistant' %}<think>

</think>

{% endif %}{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}{% endif %}"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The starter model as somebody's own, with such a template."""
    made = tmp_path / "thinker"
    shutil.copytree(STARTER, made)
    (made / "chat_template.jinja").write_text(TEMPLATE)
    return made


@pytest.fixture
def plan_of(folder: Path) -> Callable[..., Plan]:
    def make(*overrides: str) -> Plan:
        register_schemas()
        fixed = [f"model={folder}", "device=cpu", "evaluator=none", "suite.limit=1"]
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            return make_plan(to_experiment(compose("config", [*fixed, *overrides])))

    return make


def text_of(plan: Plan) -> str:
    (prompt,) = plan.prompts.values()
    return prompt.text


def test_a_model_that_may_think_is_given_no_beginning(plan_of: Callable[..., Plan]) -> None:
    off, on = plan_of(), plan_of("generation.thinking=on")
    begun = text_of(off).partition("<|im_start|>assistant\n")[2]
    assert begun.startswith("<think>\n\n</think>\n\nBelow is a Python script")
    assert text_of(on).endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert text_of(on).partition("assistant")[0] == text_of(off).partition("assistant")[0]
    assert off.fingerprint != on.fingerprint


def test_a_template_that_knows_no_thinking_is_refused(
    folder: Path, plan_of: Callable[..., Plan]
) -> None:
    plain = "{% for m in messages %}{{ m.content }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(plain)
    with pytest.raises(ConfigError, match=r"chat template knows no thinking .*model=qwen3_8b"):
        plan_of("generation.thinking=on")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="chat template knows no thinking"):
        plan_of("generation.thinking=on")


def test_gpt_oss_may_think_in_its_channels_or_begins_in_the_last(
    folder: Path, plan_of: Callable[..., Plan]
) -> None:
    (folder / "chat_template.jinja").write_text(HARMONY)
    begun = text_of(plan_of()).rpartition("<|start|>assistant")[2]
    assert begun.startswith("<|channel|>final<|message|>Below is a Python script")
    assert text_of(plan_of("generation.thinking=on")).endswith("<|end|><|start|>assistant")


@pytest.mark.slow
def test_thinking_has_tokens_and_energy_of_its_own(folder: Path, tmp_path: Path) -> None:
    done = run_main(
        tmp_path, f"model={folder}", "suite.limit=2", "batch.size=2", "evaluator=none",
        "generation.thinking=budget", "generation.thinking_tokens=5",
        "generation.max_new_tokens=200", "tracking.experiment=thinking",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = runs_of("thinking", tmp_path)
    figures, parameters = run.data.metrics, run.data.params
    assert parameters["generation.thinking"] == "budget"
    assert 10 <= figures["thinking_tokens"] <= figures["output_tokens"] <= 400
    share = figures["energy_thinking_j"] / figures["energy_generation_j"]
    assert 0 < share <= 1
    (rows,) = (tmp_path / "mlruns").rglob(f"{run.info.run_id}/artifacts/tasks.parquet")
    table = pq.read_table(rows).to_pylist()
    assert sum(row["thinking_tokens"] for row in table) == figures["thinking_tokens"]
    by_hand = sum(r["energy_j"] * r["thinking_tokens"] / r["output_tokens"] for r in table)
    assert figures["energy_thinking_j"] == pytest.approx(by_hand)
