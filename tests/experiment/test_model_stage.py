"""Quantizing is a stage with a reading of its own, which later runs on its result know too."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

from codejoule.config import ConfigError, checkout, conf_folder
from codejoule.config.compose import register_schemas
from codejoule.config.schema import QuantConfig
from codejoule.config.typed import to_experiment
from codejoule.experiment.generation_stage import generate
from codejoule.experiment.model_stage import _calibration_texts
from codejoule.experiment.plan import Plan, make_plan
from codejoule.experiment.records import read_results
from codejoule.models import Checkpoint
from codejoule.tracking import Journal
from codejoule.tracking.entries import Quantized

PlanFor = Callable[..., Plan]
STARTER = checkout() / "src" / "codejoule" / "models" / "starter" / "none"
TEXTS = "def add(a, b):\n    return a + b\n\nfor i in range(9):\n    print(i)\n\nx = [1, 2]\n"


@pytest.fixture(scope="module")
def plan_for(tmp_path_factory: pytest.TempPathFactory) -> PlanFor:
    folder = tmp_path_factory.mktemp("quantize")
    (folder / "texts.txt").write_text(TEXTS)

    def make(*overrides: str) -> Plan:
        register_schemas()
        # A folder's weights, so that it is the suite or a file that gives the texts.
        fixed = ["device=cpu", "meter=cpu_estimate", "suite.limit=2", "batch=b4",
                 "generation.max_new_tokens=4", "engine.warmup_batches=0", "quant=gptq4",
                 "model.weights=local", f"model.path={STARTER}",
                 f"quant.cache_dir={folder}/cache", "quant.calibration.samples=3",
                 f"quant.calibration.path={folder}/texts.txt"]  # fmt: skip
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            return make_plan(to_experiment(compose("config", [*fixed, *overrides])))

    return make


def already_quantized(checkpoint: Checkpoint, quant: QuantConfig, **_: Any) -> Path:
    """The bundled checkpoint of the same weights, instead of a minute's quantizing."""
    assert checkpoint.path is not None
    shutil.copytree(STARTER.parent / quant.name, checkpoint.path)
    (checkpoint.path / "codejoule.json").write_text("{}")
    torch.randn(400, 400).matrix_power(40)
    return checkpoint.path


@pytest.mark.slow
def test_quantizing_has_a_reading_which_later_runs_on_its_result_have_too(
    plan_for: PlanFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codejoule.experiment.model_stage.quantize_checkpoint", already_quantized)
    first = plan_for()
    assert first.checkpoint.needs_quantization
    generate(first, tmp_path / "first")
    second = plan_for("batch=b1")
    assert not second.checkpoint.needs_quantization
    generate(second, tmp_path / "second")
    reading, later = (read_results(tmp_path / name).quantize for name in ("first", "second"))
    assert reading is not None
    assert reading.name == "quantize"
    assert reading.energy_j > 0
    assert later == reading
    for name, earlier in (("first", False), ("second", True)):
        with Journal(tmp_path / name) as journal:
            assert [entry.earlier for entry in journal.entries(Quantized)] == [earlier]
    # Energy from another source is not comparable with this run's.
    assert second.checkpoint.path is not None
    kept = second.checkpoint.path / "quantize_energy.json"
    kept.write_text(kept.read_text().replace('"estimate"', '"rapl"'))
    generate(plan_for("suite.limit=1"), tmp_path / "third")
    assert read_results(tmp_path / "third").quantize is None


def test_calibration_texts_are_prompts_that_the_run_does_not_evaluate(plan_for: PlanFor) -> None:
    suite = ("quant.calibration.path=null", "quant.calibration.samples=8")
    plan = plan_for(*suite, "quant.calibration.seed=3")
    texts = _calibration_texts(plan)
    assert len(texts) == 8
    assert not {task.complete_prompt for task in plan.suite.tasks} & set(texts)
    assert texts == _calibration_texts(plan_for(*suite, "quant.calibration.seed=3"))
    assert texts != _calibration_texts(plan_for(*suite, "quant.calibration.seed=4"))


def test_fewer_calibration_texts_than_asked_for_are_all_taken_and_told(
    plan_for: PlanFor, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_for("quant.calibration.path=null", "quant.calibration.samples=128")
    texts = _calibration_texts(plan)
    assert len(set(texts)) == len(texts) == 61, "all of the suite's 63 but the two evaluated"
    assert "samples=128: only 61 calibration texts are there" in caplog.text
    caplog.clear()
    assert len(_calibration_texts(plan_for("quant.calibration.path=null"))) == 3
    assert not caplog.text


def test_without_any_calibration_text_the_way_out_is_told(
    plan_for: PlanFor, tmp_path: Path
) -> None:
    everything = plan_for("quant.calibration.path=null", "suite.limit=null")
    with pytest.raises(
        ConfigError, match=r"no calibration texts .*suite\.limit.*calibration\.path"
    ):
        _calibration_texts(everything)
    (tmp_path / "empty.txt").write_text("\n\n \n")
    with pytest.raises(ConfigError, match="no calibration texts"):
        _calibration_texts(plan_for(f"quant.calibration.path={tmp_path}/empty.txt"))


def test_calibration_texts_can_be_a_files_paragraphs(plan_for: PlanFor, tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("one\n\ntwo\nlines\n\n\n\nthree\n")
    plan = plan_for(f"quant.calibration.path={file}")
    texts = sorted(text.strip() for text in _calibration_texts(plan))
    assert texts == ["one", "three", "two\nlines"]
    assert plan.checkpoint.path != plan_for().checkpoint.path, "another text, another checkpoint"
