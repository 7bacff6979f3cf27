"""``codejoule plan``: real composition, predictions that are never 0, and what a sweep resolves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codejoule.cli import main
from codejoule.cli.plan import announce
from codejoule.common.progress import told_to
from codejoule.config.compose import compose_sweep
from codejoule.config.schema import TrackingConfig
from codejoule.tracking import prepare_store
from tests.analysis.simulated import write_run
from tests.common.watcher import Notes

ON_A_CARD = ["model=qwen_0_5b,qwen_7b", "quant=none,gptq4", "batch=b32", "gpu=h200",
             "model.weights=random", "suite=starter_large", "suite.limit=64",
             "generation.max_new_tokens=128"]  # fmt: skip


@pytest.fixture
def nowhere(tmp_path: Path) -> str:
    return f"tracking.dir={tmp_path}"


def planned(capsys: pytest.CaptureFixture[str], *overrides: str) -> dict[str, Any]:
    assert main(["plan", "--json", *overrides]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 2
    return document


@pytest.fixture
def history(tmp_path: Path, with_database: Callable[[Path], Path]) -> str:
    """Runs on an L40S with batches of one: three of none (2 % apart), three of gptq4."""
    project = with_database(tmp_path)
    store = prepare_store(TrackingConfig(dir=f"{project}/mlruns"))
    for quant, per_task_j, solved in (("none", 10.0, 30), ("gptq4", 4.0, 20)):
        for repeat, factor in enumerate((0.98, 1.0, 1.02), start=1):
            write_run(
                store, tmp_path, quant=quant, repeat=repeat,
                energy_j=np.full(50, per_task_j * factor), passed=np.arange(50) < solved,
            )  # fmt: skip
    return f"tracking.dir={project}/mlruns"


def test_every_job_is_composed_and_predicted_without_a_gpu(
    nowhere: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(capsys, *ON_A_CARD, "engine=generate,graph", nowhere)
    assert [job["name"] for job in plan["jobs"]][:2] == [
        "qwen_0_5b-none-b32-starter_large", "qwen_0_5b-none-b32-starter_large-graph",
    ]  # fmt: skip
    assert len(plan["jobs"]) == 8
    for job in plan["jobs"]:
        assert job["tasks"] == 64 and job["basis"] == "estimator" and job["fits"]
        assert job["generation_s"] > 0 and job["energy_kwh"] > 0 and job["memory_bytes"] > 1e9
    total = plan["total"]
    assert total["energy_kwh"] == pytest.approx(sum(job["energy_kwh"] for job in plan["jobs"]))
    assert plan["resolves"]["configurations"] == 8
    assert plan["resolves"]["comparisons"] == 4
    assert plan["resolves"]["pass_at_1"] is None, "random weights"


@pytest.mark.slow
def test_what_cannot_be_predicted_is_said_and_never_zero(
    nowhere: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(capsys, "device=cpu", "batch=b1,b8", nowhere)
    for job in plan["jobs"]:
        assert job["generation_s"] is None and job["energy_kwh"] is None
        assert "the estimator knows GPUs alone" in job["not_predicted"]
    assert plan["total"]["energy_kwh"] is None
    plan = planned(capsys, *ON_A_CARD[1:], "model=qwen_7b", "engine=continuous", nowhere)
    assert "no speed of engine=continuous is on file" in plan["jobs"][0]["not_predicted"]
    assert main(["plan", "device=cpu", "batch=b1,b8", nowhere]) == 0
    out = capsys.readouterr().out
    assert "time and energy of 2 cannot be predicted" in out
    folder = nowhere.partition("=")[2]
    assert out.endswith(
        f"Store: sqlite:///{folder}/mlflow.db, with 0 runs on this machine's CPU.\n"
    )


def test_presets_and_suites_of_the_hub_are_planned_without_a_download(
    nowhere: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(capsys, "+experiment=thesis_awq", "gpu=h100", nowhere, "model=qwen_0_5b")
    assert [job["tasks"] for job in plan["jobs"]] == [1140, 1140]
    assert planned(capsys, "+experiment=smoke", nowhere)["total"]["jobs"] == 2


@pytest.mark.slow
def test_repeats_resolve_less_and_more_tasks_tell_more_of_pass_at_1(
    nowhere: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = ["device=cpu", "quant=none,gptq4", "suite=starter_large", nowhere]
    one = planned(capsys, *job, "suite.limit=64")["resolves"]
    three = planned(capsys, *job, "suite.limit=64", "repeat=1,2,3")["resolves"]
    large = planned(capsys, *job)["resolves"]
    assert (one["runs_of_each"], three["runs_of_each"]) == (1, 3)
    assert three["energy_rel"]["generate"] < one["energy_rel"]["generate"]
    assert three["pass_at_1"] == one["pass_at_1"] > large["pass_at_1"]
    repeats, tasks = one["changes"]
    assert (repeats["override"], tasks["override"]) == ("repeat=1,2,3", "suite.limit=256")
    assert repeats["energy_rel"] == pytest.approx(three["energy_rel"])
    assert tasks["pass_at_1"] < one["pass_at_1"]
    assert [change["override"] for change in large["changes"]] == ["repeat=1,2,3"], "no more tasks"


@pytest.mark.slow
def test_earlier_runs_predict_and_tell_how_much_runs_and_verdicts_vary(
    history: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """gpu names the card of those runs; the model's other settings they do not record."""
    tasks = tmp_path / "mine.jsonl"
    row = {"task_id": "", "complete_prompt": "def f():\n", "instruct_prompt": "f", "test": "",
           "code_prompt": "", "canonical_solution": "    pass\n", "entry_point": "f", "libs": "[]"}  # fmt: skip
    tasks.write_text("".join(json.dumps(row | {"task_id": f"t/{i}"}) + "\n" for i in range(20)))
    plan = planned(
        capsys, "model=qwen_7b", "quant=none,gptq4,gptq8", "gpu=l40s", f"suite.path={tasks}",
        "suite.name=mine", "suite.split=instruct", "batch=b1", history,
    )  # fmt: skip
    none, gptq4, gptq8 = plan["jobs"]
    assert (none["basis"], gptq4["basis"], gptq8["basis"]) == (
        "earlier runs", "earlier runs", "estimator",
    )  # fmt: skip
    assert none["energy_kwh"] == pytest.approx(20 * 10 / 3.6e6)
    assert gptq4["energy_kwh"] == pytest.approx(20 * 4 / 3.6e6)
    told = plan["resolves"]
    (variance,) = told["between_runs"].values()
    assert (variance["source"], variance["df"]) == ("repeats", 4)
    assert variance["sd_log"] == pytest.approx(0.02, rel=0.01)
    assert told["discordance_source"] == "runs"
    assert told["discordance"] == pytest.approx(0.2)


def test_a_typo_is_told_in_the_words_of_a_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "quant=none,gptq3"]) == 2
    assert "quant=gptq3: no such choice" in capsys.readouterr().err
    assert main(["plan", "hydra/sweeper=basic", "batch=b1,b8"]) == 2
    assert "chooses its jobs as it goes" in capsys.readouterr().err


def test_two_lines_stand_at_the_start_of_a_sweep_and_never_stop_it(nowhere: str) -> None:
    experiments = compose_sweep(["device=cpu", "batch=b1,b8", nowhere])
    notes = Notes()
    with told_to(notes):
        assert announce(experiments) == [None, None]
        announce([])
    first, second = notes.said[0].splitlines()
    assert first.startswith("Plan: 2 jobs, time and energy of 2 cannot be predicted")
    assert second.startswith("In 80 of 100 cases it will find a real difference of ")
    assert notes.said[1].startswith("There is no plan of this sweep: ")
