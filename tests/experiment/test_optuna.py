"""``hydra/sweeper=optuna``, of the plugin hydra-optuna-sweeper, on two objectives."""

from pathlib import Path

import pytest
import yaml

from tests.experiment.job import run_main, runs_of

pytest.importorskip(
    "hydra_plugins.hydra_optuna_sweeper",
    reason="hydra-optuna-sweeper is not installed (pip install -c constraints.txt -e '.[optuna]')",
)


def test_a_study_of_energy_and_pass_at_1_is_a_sweep_like_any_other(store: Path) -> None:
    done = run_main(
        store, "-m", "hydra/sweeper=optuna", "hydra.sweeper.direction=[minimize,maximize]",
        "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1", "hydra.sweeper.sampler.seed=1",
        "batch=choice(b4,b8)", "suite.limit=8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = runs_of("codejoule", store)
    (parent,) = [run for run in runs if run.data.tags["codejoule.kind"] == "sweep"]
    children = [run for run in runs if run.data.tags["codejoule.kind"] == "run"]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert parent.info.status == "FINISHED"
    (file,) = store.glob("multirun/*/optimization_results.yaml")
    best = yaml.safe_load(file.read_text(encoding="utf-8"))["solutions"][0]
    measured = [
        [run.data.metrics["energy_per_task_j"], run.data.metrics["pass_at_1"]] for run in children
    ]
    assert best["values"] in measured
    assert "3 jobs: " in done.stdout


def test_an_objective_that_was_not_measured_fails_the_trial_and_not_the_sweep(store: Path) -> None:
    done = run_main(
        store, "-m", "hydra/sweeper=optuna", "hydra.sweeper.direction=minimize",
        "hydra.sweeper.n_trials=1", "hydra.sweeper.n_jobs=1", "suite.limit=4", "batch=choice(b4)",
        "sweep.objectives=[energy_gpu_j]", "hydra.sweeper.max_failure_rate=1",
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "has no energy_gpu_j" in said
