"""What a sweep leaves in MLflow, by the contract of the design."""

import json
import math
import re
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from codejoule.analysis import load_runs, power_profiles
from codejoule.domain import TASK_COLUMNS
from codejoule.experiment.sweep import swept
from tests.experiment.job import Sweep, run_main, runs_of

# On a machine without GPU and without readable RAPL: everything that applies, nothing else.
CPU_METRICS = {
    "energy_generation_j", "energy_prefill_j", "energy_decode_j", "energy_evaluation_j",
    "energy_total_kwh", "energy_per_output_token_j", "energy_per_token_j", "energy_per_task_j",
    "energy_per_solved_task_j", "energy_load_j", "mean_power_w", "latency_s", "ttft_s", "tpot_s",
    "throughput_tokens_per_s", "output_tokens", "prompt_tokens", "tasks", "pass_at_1",
    "pass_at_1_ci_low", "pass_at_1_ci_high", "pass_at_1_per_kwh", "carbon_g", "tasks_valid",
    "pass_at_1_valid", "pass_at_1_valid_ci_low", "pass_at_1_valid_ci_high",
    "predicted_memory_bytes", "padding_share", "energy_per_output_token_mj",
}  # fmt: skip
ARTIFACTS = {
    "tasks.parquet", "samples.jsonl", "eval_results.json", "pass_at_k.json", "power.parquet",
    "windows.parquet", "prompts.jsonl", "config.yaml", "environment.json", "model.json",
    "sandbox.json", "ground_truth.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(sweep: Sweep) -> list[Run]:
    return runs_of("codejoule", sweep.folder)


@pytest.fixture(scope="module")
def children(runs: list[Run]) -> list[Run]:
    return [run for run in runs if run.data.tags["codejoule.kind"] == "run"]


def artifact(run: Run, name: str, uri: str) -> Path:
    return Path(
        mlflow.artifacts.download_artifacts(
            run_id=run.info.run_id, artifact_path=name, tracking_uri=uri
        )
    )


def test_a_sweep_is_one_parent_with_a_child_per_job(runs: list[Run], children: list[Run]) -> None:
    (parent,) = [run for run in runs if run.data.tags["codejoule.kind"] == "sweep"]
    assert len(children) == 4
    assert all(c.data.tags["mlflow.parentRunId"] == parent.info.run_id for c in children)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {c.info.run_name for c in children} == {
        "starter-none-b1", "starter-none-b8", "starter-gptq4-b1", "starter-gptq4-b8",
    }  # fmt: skip


def test_the_parent_is_named_by_its_factors_and_says_what_came_out(
    runs: list[Run], children: list[Run]
) -> None:
    (parent,) = [run for run in runs if run.data.tags["codejoule.kind"] == "sweep"]
    assert parent.info.run_name == "quant x batch"
    note = parent.data.tags["mlflow.note.content"]
    assert "| model | quant | batch |" in note
    assert note.count("| starter |") == 4
    for name in ("energy_per_solved_task_j", "pass_at_1"):
        figures = [c.data.metrics[name] for c in children if name in c.data.metrics]
        best = max(figures) if name == "pass_at_1" else min(figures)
        assert parent.data.metrics[f"best_{name}"] == pytest.approx(best)
        (winner,) = [
            c for c in children if c.info.run_name == parent.data.tags[f"codejoule.best_{name}"]
        ]
        assert winner.data.metrics[name] == best
    assert parent.data.tags["codejoule.energy_source"] == "estimate"


@pytest.mark.slow
def test_a_sweep_in_which_all_was_skipped_leaves_no_parent(sweep: Sweep) -> None:
    before = {run.info.run_id for run in runs_of("codejoule", sweep.folder)}
    again = run_main(sweep.folder, "-m", "quant=none,gptq4", "batch=b1,b8", "suite.limit=12")
    assert again.returncode == 0, again.stderr
    assert "4 had finished before" in again.stdout
    assert {run.info.run_id for run in runs_of("codejoule", sweep.folder)} == before


@pytest.mark.parametrize(
    ("overrides", "params", "factors"),
    [
        (["quant=none,awq", "batch=b8", "repeat=range(1,4)"], None, ["quant", "repeat"]),
        (["engine=generate"], {"engine": "generate,static", "batch": "b1,b8"}, ["batch"]),
        (["+model.dtype=choice(float16,bfloat16)"], {}, ["model.dtype"]),
        (["suite.limit=4"], None, []),
    ],
)
def test_the_factors_of_a_sweep_are_what_has_several_values(overrides, params, factors) -> None:
    assert swept(overrides, params) == factors


def test_every_metric_that_applies_is_there_and_none_that_does_not(children: list[Run]) -> None:
    for child in children:
        expected = set(CPU_METRICS)
        if child.data.metrics["pass_at_1"] == 0:
            expected.remove("energy_per_solved_task_j")
        assert set(child.data.metrics) == expected
        assert all(math.isfinite(value) for value in child.data.metrics.values())


def test_carbon_is_the_total_energy_at_the_sites_overhead(children: list[Run]) -> None:
    for child in children:
        total_kwh = child.data.metrics["energy_total_kwh"]
        assert child.data.metrics["carbon_g"] == pytest.approx(total_kwh * 1.56 * 473)
        assert "energy_cost" not in child.data.metrics, "no price was given"


def test_no_energy_is_zero(children: list[Run]) -> None:
    for child in children:
        energies = {k: v for k, v in child.data.metrics.items() if k.startswith("energy_")}
        assert all(value > 0 for value in energies.values()), energies


def test_tags_say_what_was_measured_and_how(children: list[Run]) -> None:
    for child in children:
        tags = child.data.tags
        assert tags["codejoule.energy_source"] == "estimate"
        assert tags["codejoule.energy_source_evaluation"] == "estimate"
        assert tags["codejoule.energy_scope"] == "cpu"
        assert tags["codejoule.weights"] == "bundled"
        assert tags["codejoule.length"] == "free"
        assert "codejoule.gpu" not in tags
        assert tags["codejoule.validity"] == "estimate"
        assert tags["codejoule.schema_version"] == "2"
        assert len(tags["codejoule.fingerprint"]) == 32
    assert len({c.data.tags["codejoule.fingerprint"] for c in children}) == 4


def test_params_that_say_nothing_of_the_run_are_left_to_its_config_yaml(
    children: list[Run], sweep: Sweep
) -> None:
    for child in children:
        params = child.data.params
        assert not {"null", "{}", "[]"} & set(params.values())
        assert not [key for key in params if key.startswith(("tracking.", "sweep.", "gpu.driver"))]
        quantized = params["quant.name"] != "none"
        assert ("quant.method" in params) == quantized
        config = yaml.safe_load(artifact(child, "config.yaml", sweep.uri).read_text("utf-8"))
        assert config["model"]["path"] is None
        assert config["tracking"]["dir"]


def test_headline_figures_are_logged_first(children: list[Run], sweep: Sweep) -> None:
    for child in children:
        metrics = child.data.metrics
        in_mj = metrics["energy_per_output_token_mj"]
        assert in_mj == pytest.approx(1000 * metrics["energy_per_output_token_j"])
        names = list(MlflowClient(sweep.uri).get_run(child.info.run_id).data.metrics)
        first = ["energy_per_solved_task_j", "pass_at_1", "energy_per_task_j"]
        assert [name for name in names if name in first] == [n for n in first if n in metrics]
        assert names.index("energy_per_output_token_mj") < names.index("prompt_tokens")


def test_params_are_the_flattened_config(children: list[Run]) -> None:
    by_name = {c.info.run_name: c.data.params for c in children}
    params = by_name["starter-gptq4-b8"]
    assert params["model.name"] == "starter"
    assert params["quant.method"] == "gptq"
    assert params["quant.bits"] == "4"
    assert params["batch.size"] == "8"
    assert params["suite.limit"] == "12"


def test_the_dataset_is_logged_with_its_checksum(children: list[Run]) -> None:
    for child in children:
        (dataset,) = child.inputs.dataset_inputs
        assert dataset.dataset.name == "starter"
        assert len(dataset.dataset.digest) >= 16


def test_artifacts_of_the_contract_are_there(children: list[Run], sweep: Sweep) -> None:
    client = MlflowClient(sweep.uri)
    for child in children:
        names = {item.path for item in client.list_artifacts(child.info.run_id)}
        assert names >= ARTIFACTS
        assert any(name.startswith("power.") and not name.endswith("parquet") for name in names)


def test_per_task_energies_add_up_to_the_run(children: list[Run], sweep: Sweep) -> None:
    for child in children:
        tasks = pd.read_parquet(artifact(child, "tasks.parquet", sweep.uri))
        assert tuple(tasks.columns) == TASK_COLUMNS
        metrics = child.data.metrics
        assert tasks["energy_j"].sum() == pytest.approx(metrics["energy_generation_j"], rel=1e-6)
        batches = tasks.groupby("batch")["batch_energy_j"].first()
        assert batches.sum() == pytest.approx(metrics["energy_generation_j"], rel=1e-6)
        assert tasks["evaluation_energy_j"].sum() == pytest.approx(
            metrics["energy_evaluation_j"], rel=1e-6
        )
        assert tasks["batch_size"].max() == int(child.data.params["batch.size"])
        assert list(tasks["order"]) == list(range(12))
        assert set(tasks["verdict"]) <= {"pass", "fail", "timeout"}
        assert (tasks["verdict"] == "pass").mean() == pytest.approx(metrics["pass_at_1"])


def test_windows_and_prompts_are_those_of_the_tasks(children: list[Run], sweep: Sweep) -> None:
    for child in children:
        tasks = pd.read_parquet(artifact(child, "tasks.parquet", sweep.uri))
        windows = pd.read_parquet(artifact(child, "windows.parquet", sweep.uri))
        own = tasks.groupby("batch")["batch_energy_j"].first()
        assert list(windows["energy_j"]) == pytest.approx(list(own))
        assert (windows["start_s"].diff()[1:] > 0).all()
        lines = artifact(child, "prompts.jsonl", sweep.uri).read_text(encoding="utf-8").splitlines()
        prompts = {row["task_id"]: row["prompt"] for row in map(json.loads, lines)}
        assert list(prompts) == list(tasks["task_id"])
        assert all("def task_func" in prompt for prompt in prompts.values())


def test_area_under_the_power_of_a_run_is_its_energy(children: list[Run], sweep: Sweep) -> None:
    loaded = load_runs(sweep.uri, "codejoule")
    ids = [child.info.run_id for child in children]
    for own in power_profiles(loaded.frame, ids, uri=sweep.uri):
        assert own.windows_s[0, 0] == 0
        assert own.sampled_j == pytest.approx(own.energy_j, rel=0.25)


def test_samples_and_verdicts_are_in_the_benchmarks_own_formats(
    children: list[Run], sweep: Sweep
) -> None:
    for child in children:
        lines = artifact(child, "samples.jsonl", sweep.uri).read_text(encoding="utf-8").splitlines()
        samples = [json.loads(line) for line in lines]
        results = json.loads(
            artifact(child, "eval_results.json", sweep.uri).read_text(encoding="utf-8")
        )
        assert {s["task_id"] for s in samples} == set(results["eval"])
        assert all({"task_id", "solution", "raw_solution"} <= set(s) for s in samples)
        for rows in results["eval"].values():
            assert {"task_id", "solution", "status", "details"} <= set(rows[0])
        rates = json.loads(artifact(child, "pass_at_k.json", sweep.uri).read_text(encoding="utf-8"))
        assert rates == {
            "pass@1": pytest.approx(child.data.metrics["pass_at_1"]),
            "model": "starter" if child.data.params["quant.name"] == "none" else "starter--gptq4",
            "split": "complete",
            "subset": "starter",
            "calibrated": True,
            "gt_pass_rate": 1.0,
            "failed_tasks": [],
        }


def test_what_isolated_the_samples_is_recorded(children: list[Run], sweep: Sweep) -> None:
    for child in children:
        facts = json.loads(artifact(child, "sandbox.json", sweep.uri).read_text(encoding="utf-8"))
        assert child.data.tags["codejoule.sandbox"] == facts["launcher"]
        assert facts["launcher"] == "namespaces"
        assert facts["primitives"]


def test_tasks_that_can_be_solved_here_are_told_apart(children: list[Run]) -> None:
    for child in children:
        metrics = child.data.metrics
        assert metrics["tasks_valid"] == 12
        assert metrics["pass_at_1_valid"] == metrics["pass_at_1"]


def test_what_was_loaded_is_recorded_not_what_was_asked_for(
    children: list[Run], sweep: Sweep
) -> None:
    facts: dict[str, Any] = {
        c.info.run_name: json.loads(
            artifact(c, "model.json", sweep.uri).read_text(encoding="utf-8")
        )
        for c in children
    }
    assert facts["starter-gptq4-b1"]["bits"] == 4
    assert facts["starter-none-b1"]["bits"] is None
    assert facts["starter-none-b1"]["device"] == "cpu"


def test_the_summary_is_printed_with_its_limits(sweep: Sweep) -> None:
    said = sweep.done.stdout
    assert f"Runs are recorded in {sweep.uri}, experiment codejoule." in sweep.done.stderr
    assert "estimate" in said
    assert "is assumed (repeat=1,2,3 tells)" in said
    assert "Whether this holds on other tasks like these is not known" in said
    assert "starter" in said
    assert "4 jobs: 4 finished." in said


def test_each_job_has_a_line_of_its_figures_and_libraries_have_none(sweep: Sweep) -> None:
    said = sweep.done.stderr
    lines = re.findall(
        r"^(\d/4) (starter-\w+-b\d): ~[\d.]+ J per solved task \(estimate\), pass@1 [\d.]+, "
        r"[\d,.]+ tokens/s, [\d.]+ (?:s|min)$", said, re.MULTILINE,
    )  # fmt: skip
    assert lines == [
        ("1/4", "starter-none-b1"), ("2/4", "starter-none-b8"),
        ("3/4", "starter-gptq4-b1"), ("4/4", "starter-gptq4-b8"),
    ]  # fmt: skip
    assert "Plan: 4 jobs" in said and "\x1b" not in said
    for chatter in ("HYDRA", "bitsandbytes", "it/s", "gptqmodel"):
        assert chatter not in said + sweep.done.stdout
    logs = list(sweep.folder.glob("multirun/*/*/main.log"))
    assert len(logs) >= 4 and any("its kernels take" in log.read_text() for log in logs)


@pytest.mark.slow
def test_a_quiet_run_prints_its_answer_alone(store: Path) -> None:
    done = run_main(store, "--quiet", "suite.limit=1")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("\nsuite starter (")
    assert done.stdout.endswith("\n1 job: 1 finished.\n")


def test_a_finished_config_is_skipped_with_a_word_and_a_repeat_is_not(sweep: Sweep) -> None:
    again = run_main(sweep.folder, "-m", "batch=b8", "repeat=1,2", "suite.limit=12")
    assert again.returncode == 0, again.stderr
    said = again.stdout + again.stderr
    assert said.count("has finished before") == 1
    names = [r.info.run_name for r in runs_of("codejoule", sweep.folder)]
    assert names.count("starter-none-b8") == 1
    assert names.count("starter-none-b8-r2") == 1


@pytest.mark.slow
def test_a_finished_config_runs_again_when_told_to(sweep: Sweep) -> None:
    again = run_main(sweep.folder, "batch=b8", "suite.limit=12", "on_finished=rerun")
    assert again.returncode == 0, again.stderr
    names = [r.info.run_name for r in runs_of("codejoule", sweep.folder)]
    assert names.count("starter-none-b8") == 2


def test_a_job_that_cannot_run_fails_alone(store: Path) -> None:
    """No hub here: qwen fails with one message, the starter model still runs."""
    done = run_main(
        store, "-m", "model=qwen_0_5b,starter", "suite.limit=2", "evaluator=none",
        HF_ENDPOINT="http://127.0.0.1:9",
    )  # fmt: skip
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert "model.weights=random" in said
    assert "model=/path/to/folder" in said
    status = {run.info.run_name: run.info.status for run in runs_of("codejoule", store)}
    assert status["qwen_0_5b-none-b1"] == "FAILED"
    assert status["starter-none-b1"] == "FINISHED"


@pytest.mark.slow
def test_a_shuffled_sweep_is_recorded_and_runs_every_job_once(store: Path) -> None:
    done = run_main(
        store, "-m", "sweep.order=shuffled", "sweep.seed=1", "repeat=1,2,3", "suite.limit=1",
        "evaluator=none",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = runs_of("codejoule", store)
    jobs = [run for run in runs if run.data.tags["codejoule.kind"] == "run"]
    order = [int(run.data.params["repeat"]) for run in sorted(jobs, key=started)]
    assert sorted(order) == [1, 2, 3]
    assert order != [1, 2, 3]
    (parent,) = [run for run in runs if run.data.tags["codejoule.kind"] == "sweep"]
    assert parent.data.tags["codejoule.sweep.order"] == "shuffled"
    assert "pass_at_1" not in jobs[0].data.metrics, "nothing was judged"
    assert "energy_total_kwh" not in jobs[0].data.metrics


def started(run: Run) -> int:
    return int(run.info.start_time)
