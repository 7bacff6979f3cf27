"""An adapter is trained on texts that are not evaluated, and the tuned model is run and compared."""

import json
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from mlflow.entities import Run

from codejoule.analysis import analyse, load_runs
from codejoule.config import ConfigError, UserError, checkout
from codejoule.config.compose import compose_experiment
from codejoule.config.schema import ModelConfig, Weights
from codejoule.domain import EnergyReading, EnergyScope, EnergySource
from codejoule.domain.finetuning import finetune_metrics
from codejoule.experiment.plan import Plan, make_plan
from codejoule.experiment.training_data import seen_in_training, task_hash
from codejoule.models.adapter import CONFIG, PROVENANCE, WEIGHTS, with_adapter
from codejoule.models.checkpoint import Checkpoint
from codejoule.suites import load_suite_named
from tests.experiment.job import entries_of, run_main, runs_of, start_main

STARTER = checkout() / "src/codejoule/models/starter/none"
TRAIN = ("stage=finetune", "finetune.data=starter_large")


@pytest.fixture
def plan_of(tmp_path: Path) -> Callable[..., Plan]:
    def make(*overrides: str) -> Plan:
        fixed = ["stage=finetune", "device=cpu", f"tracking.dir={tmp_path}"]
        return make_plan(compose_experiment([*fixed, *overrides]))

    return make


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["stage=finetune", "quant=gptq4"], "trains beside unquantized weights"),
        (["stage=finetune", "engine=static"], "needs no engine"),
        (["stage=finetune", "finetune.rank=0"], "finetune.rank=0: must be at least 1"),
        (["stage=finetune", "finetune.target_modules=[]"], "adapts nothing"),
        (["model.adapter=runs:/a", "model.weights=random", "model=qwen_7b"], "merge_adapter=false"),
        (["model.adapter=runs:/a", "model.merge_adapter=false", "quant=gptq4"], "quantized weights"),
        (["model.adapter=runs:/a", "model.merge_adapter=false", "engine=vllm"], "merge_adapter=true"),
        (["model.adapter=/no/such/folder"], "no such file or folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_or_run_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose_experiment(overrides)


def test_evaluated_tasks_are_kept_out_of_training(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of("suite=starter_large", "suite.shuffle=3", "suite.limit=400")
    training = plan.training
    assert training is not None
    assert (len(training.examples), training.left_out) == (6, 400)
    assert not set(training.task_hashes) & {task_hash(task) for task in plan.suite.tasks}
    assert plan.batches == ()


def test_a_suite_that_is_evaluated_whole_leaves_nothing_to_train_on(
    plan_of: Callable[..., Plan],
) -> None:
    with pytest.raises(ConfigError, match="none is left to train on"):
        plan_of("suite=starter")


def test_a_text_of_ones_own_with_a_solution_in_it_is_left_out(
    plan_of: Callable[..., Plan], tmp_path: Path
) -> None:
    task, file = load_suite_named("starter").tasks[7], tmp_path / "own.jsonl"
    stolen = {"text": f"# copied\n{task.canonical_solution}\n\n"}
    file.write_text(f'{json.dumps(stolen)}\n{{"text": "x = 1"}}\n')
    training = plan_of(f"finetune.data={file}").training
    assert training is not None
    assert [example.completion for example in training.examples] == ["x = 1"]
    assert training.left_out == 1


def test_the_fingerprint_of_training_knows_texts_and_settings_and_no_decoding(
    plan_of: Callable[..., Plan],
) -> None:
    data = "finetune.data=starter_large"
    one = plan_of(data).fingerprint
    assert plan_of(data, "batch=b8", "generation=sample").fingerprint == one
    others = {plan_of(data, "finetune.rank=4").fingerprint,
              plan_of("suite=starter_large", "suite.limit=9").fingerprint}  # fmt: skip
    assert len(others - {one}) == 2


def test_what_an_adapter_has_learnt_is_told_by_its_tasks() -> None:
    tasks = load_suite_named("starter").tasks
    hashes = [task_hash(task) for task in tasks]
    said = {"trained_hashes": hashes[:2], "evaluated_hashes": []}
    assert seen_in_training(said, tasks) == "2 of 63 tasks were trained on"
    assert seen_in_training(said, tasks[2:]) == "none of 61 tasks"
    texts = {"trained_hashes": [], "evaluated_hashes": hashes[:60]}
    assert seen_in_training(texts, tasks).startswith("not known of 3 of 63 tasks")
    assert seen_in_training(texts, tasks[:60]) == "none of 60 tasks"


def test_an_adapter_of_other_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text('{"peft_type": "LORA", "base_model_name_or_path": "x"}')
    (tmp_path / WEIGHTS).write_bytes(b"weights")
    (tmp_path / PROVENANCE).write_text('{"base": "abc", "base_name": "starter"}')
    model = ModelConfig(name="starter", adapter="given")
    base = Checkpoint(weights=Weights.bundled, source="here", path=STARTER, checksum="def")
    with pytest.raises(UserError, match=r"trained with starter \(abc\).*here \(def\)"):
        with_adapter(base, tmp_path, model, tmp_path)
    (tmp_path / PROVENANCE).unlink()
    with pytest.raises(UserError, match="trained with x"):
        with_adapter(base, tmp_path, model, tmp_path)


def test_a_folder_that_is_no_adapter_is_refused(tmp_path: Path) -> None:
    base = Checkpoint(weights=Weights.bundled, source="here", path=STARTER, checksum="def")
    with pytest.raises(ConfigError, match=r"not an adapter.*has no adapter_config\.json"):
        with_adapter(base, tmp_path, ModelConfig(name="starter", adapter="given"), tmp_path)


def test_energy_of_training_is_the_sum_of_its_windows() -> None:
    def reading(energy_j: float, uncertainty_j: float | None = 0.3) -> EnergyReading:
        return EnergyReading(
            name="steps", source=EnergySource.nvml, scope=EnergyScope.gpu, start_s=0.0,
            latency_s=2.0, energy_j=energy_j, energy_net_j=energy_j - 1,
            uncertainty_j=uncertainty_j,
        )  # fmt: skip

    found = finetune_metrics(
        [reading(10.0), reading(30.0)], reading(40.0), [2.0, 1.0], tokens=100, learned_tokens=60,
        positions=125,
    )  # fmt: skip
    assert found["energy_finetune_j"] == 40.0
    assert found["energy_finetune_windows_rel"] == 0.0
    assert found["energy_per_trained_token_j"] == 0.4
    assert found["throughput_trained_tokens_per_s"] == 25.0
    assert found["energy_finetune_net_j"] == 38.0
    assert found["padding_share"] == pytest.approx(0.2)
    assert (found["loss_first"], found["loss_last"]) == (2.0, 1.0)
    unstated = finetune_metrics(
        [reading(10.0, None)], reading(10.0), [1.0], tokens=1, learned_tokens=1, positions=1
    )
    assert "energy_finetune_uncertainty_j" not in unstated


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Twelve steps of training, then the base model, and the tuned one merged and not."""
    folder = tmp_path_factory.mktemp("tuned")
    own = ("suite.limit=16", "batch=b8", f"quant.cache_dir={folder}/cache")
    home = {"CODEJOULE_HOME": str(folder)}
    training = run_main(
        folder, *TRAIN, "finetune.steps=12", "finetune.learning_rate=1e-3", "isolation=process",
        **home,
    )  # fmt: skip
    assert training.returncode == 0, training.stderr
    (run,) = runs_of("codejoule", folder)
    adapter = f"model.adapter=runs:/{run.info.run_id}/adapter"
    done = run_main(folder, "-m", *own, f"{adapter},null", "model.merge_adapter=true,false", **home)
    assert done.returncode == 0, done.stderr
    tuned = [
        each for each in runs_of("codejoule", folder) if each.data.tags["codejoule.kind"] == "run"
    ]
    return SimpleNamespace(
        folder=folder, home=home, own=own, training=training, run=run, adapter=adapter, done=done,
        tuned=tuned,
    )  # fmt: skip


def _artifacts(run: Run) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://"))


@pytest.mark.slow
def test_training_is_a_run_of_its_own_with_its_windows(trained: SimpleNamespace) -> None:
    run, said = trained.run, trained.training.stdout + trained.training.stderr
    metrics, tags = run.data.metrics, run.data.tags
    assert "J of training" in said and "loss" in said
    assert tags["codejoule.kind"] == "finetune"
    assert run.data.params["finetune.rank"] == "16" and "batch.size" not in run.data.params
    assert "406 texts of starter_large; 0 left out" in tags["codejoule.trained_on"]
    windows = pq.read_table(_artifacts(run) / "windows.parquet")
    assert sum(windows["energy_j"].to_pylist()) == pytest.approx(metrics["energy_finetune_j"])
    # The CPU's clock is read a moment before and after.
    assert abs(metrics["energy_finetune_windows_rel"]) < 0.05
    losses = (_artifacts(run) / "losses.jsonl").read_text().splitlines()
    assert len(losses) == metrics["finetune_steps"] == 12
    assert metrics["trained_tokens"] > metrics["learned_tokens"] > 0
    provenance = json.loads((_artifacts(run) / "adapter" / PROVENANCE).read_text())
    assert provenance["base"] == tags["codejoule.base"]
    assert provenance["trainable_parameters"] == metrics["trainable_parameters"] == 79872
    assert len(provenance["trained_hashes"]) == 406


@pytest.mark.slow
def test_the_same_training_is_skipped(trained: SimpleNamespace) -> None:
    again = run_main(
        trained.folder, *TRAIN, "finetune.steps=12", "finetune.learning_rate=1e-3",
        "isolation=process", **trained.home,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "1 had finished before" in again.stdout


@pytest.mark.slow
def test_the_tuned_model_runs_merged_and_beside_with_the_same_answers(
    trained: SimpleNamespace,
) -> None:
    tuned = [run for run in trained.tuned if "codejoule.adapter" in run.data.tags]
    base = [run for run in trained.tuned if "codejoule.adapter" not in run.data.tags]
    # merge_adapter says nothing without an adapter, but it is another command.
    assert {run.data.tags["codejoule.adapter_merged"] for run in tuned} == {"true", "false"}
    assert {run.data.tags["codejoule.tasks_in_training"] for run in tuned} == {"none of 16 tasks"}
    assert {run.data.tags["codejoule.adapter"] for run in tuned} == {
        trained.run.data.tags["codejoule.adapter"]
    }
    models = [json.loads((_artifacts(run) / "model.json").read_text()) for run in tuned]
    assert {model["adapter"]["merged"] for model in models} == {True, False}
    assert len({model["checksum"] for model in models}) == 2
    beside = next(model for model in models if not model["adapter"]["merged"])
    assert beside["n_parameters"] == 394880 + 79872
    answers = [
        [json.loads(line)["solution"] for line in (_artifacts(run) / "samples.jsonl").open()]
        for run in tuned
    ]
    same = np.mean([a == b for a, b in zip(*answers, strict=True)])
    # Merged weights are rounded to float16, in which the base is stored.
    assert same >= 0.9
    assert len(base) == 1


@pytest.mark.slow
def test_training_and_inference_stand_in_one_table(trained: SimpleNamespace) -> None:
    loaded = load_runs(f"sqlite:///{trained.folder}/mlruns/mlflow.db", "codejoule")
    assert [row["run_name"] for row in loaded.trained] == ["starter-finetune-starter_large-r16"]
    analysis = analyse(loaded)
    (group,) = analysis.groups
    rows = group.tables["finetuning"].rows()
    assert len(rows) == 2
    for row in rows:
        assert row["energy_finetune_j"] == trained.run.data.metrics["energy_finetune_j"]
        assert row["reference"] is not None
        assert row["energy_with_training_j"] > row["energy_finetune_j"]
    assert analysis.notes[0].startswith("Fine-tuning starter-finetune-starter_large-r16: ~")
    without = replace(loaded, trained=())
    assert "finetuning" not in analyse(without).groups[0].tables


@pytest.mark.slow
def test_an_adapter_is_refused_beside_another_model(trained: SimpleNamespace) -> None:
    other = trained.folder / "other"
    shutil.copytree(STARTER, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))
    done = run_main(trained.folder, *trained.own, f"model={other}", trained.adapter, **trained.home)
    assert done.returncode == 1
    assert "the adapter was trained with starter" in done.stderr


@pytest.mark.slow
def test_training_that_was_killed_begins_anew_and_keeps_what_it_took(tmp_path: Path) -> None:
    asked = (*TRAIN, "finetune.steps=30", "finetune.batch=8", "isolation=inline")
    job = start_main(tmp_path, *asked)
    while [entry["kind"] for entry in entries_of(tmp_path)].count("train") < 1:
        assert job.poll() is None, job.communicate()
        time.sleep(0.05)
    job.send_signal(signal.SIGKILL)
    job.wait()
    done = run_main(tmp_path, *asked)
    assert done.returncode == 0, done.stderr
    (run,) = runs_of("codejoule", tmp_path)
    metrics = run.data.metrics
    assert (run.info.status, metrics["finetune_steps"]) == ("FINISHED", 30)
    assert metrics["energy_broken_off_j"] > 0
    windows = pq.read_table(_artifacts(run) / "windows.parquet")
    assert sum(windows["energy_j"].to_pylist()) == pytest.approx(metrics["energy_finetune_j"])
    assert not list((tmp_path / "mlruns" / "journals").rglob("adapter"))
