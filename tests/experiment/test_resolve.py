"""``hydra/sweeper=resolve``: real runs until a goal is decided, killed and continued."""

import math
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run

from codejoule.analysis import load_runs
from codejoule.cli import resolve
from codejoule.cli.resolve import Options, Resolver
from codejoule.config import ConfigError, UserError
from codejoule.config.compose import compose_sweep, register_schemas
from codejoule.statistics import ASSUMED, RunVariance
from hydra_plugins.codejoule_sweeper.resolve import ResolveConfig
from tests.experiment.job import ROOT, run_main, runs_of, start_main

SPACE = ("-m", "hydra/sweeper=resolve", "batch=b4,b8", "suite.limit=24", "hydra.sweeper.first=8")
GOAL = ("hydra.sweeper.goal=least_energy", "hydra.sweeper.min_pass_at_1=0.3")


def finished(folder: Path) -> list[Run]:
    return [
        run
        for run in runs_of("codejoule", folder)
        if run.data.tags["codejoule.kind"] == "run" and run.info.status == "FINISHED"
    ]


def tasks(run: Run, folder: Path) -> pd.DataFrame:
    uri = f"sqlite:///{folder}/mlruns/mlflow.db"
    path = download_artifacts(
        run_id=run.info.run_id, artifact_path="tasks.parquet", tracking_uri=uri
    )
    return pd.read_parquet(path)


@pytest.mark.slow
def test_a_longer_run_takes_over_what_a_shorter_one_has_done(store: Path) -> None:
    common = ("batch=b4", "suite.shuffle=3")
    assert run_main(store, *common, "suite.limit=8").returncode == 0
    done = run_main(store, *common, "suite.limit=16", "suite.extends=8")
    assert done.returncode == 0, done.stderr
    long, short = finished(store)  # the latest first
    assert long.data.tags["codejoule.extends"] == short.info.run_id
    assert long.data.tags["codejoule.sessions"] == "2"
    before, after = tasks(short, store), tasks(long, store)
    columns = ["task_id", "energy_j", "verdict"]
    assert len(after) == 16
    pd.testing.assert_frame_equal(after[columns][:8], before[columns])
    loaded = load_runs(f"sqlite:///{store}/mlruns/mlflow.db", "codejoule")
    assert list(loaded.frame["run_id"]) == [long.info.run_id]
    assert "1 run that one of more tasks has taken over" in loaded.left_out


@pytest.mark.slow
def test_where_nothing_can_be_taken_over_all_is_generated_and_said(store: Path) -> None:
    done = run_main(store, "batch=b8", "suite.limit=16", "suite.extends=8")
    assert done.returncode == 0, done.stderr
    assert "nothing of that run can be taken over" in done.stderr + done.stdout
    (run,) = finished(store)
    assert run.data.tags["codejoule.sessions"] == "1"
    assert "codejoule.extends" not in run.data.tags


@pytest.mark.slow
def test_a_sweep_is_killed_and_continued_to_its_answer(store: Path) -> None:
    process = start_main(store, *SPACE, *GOAL, new_session=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        outcomes = list(store.glob("multirun/*/*/outcome-*.json"))
        if len(outcomes) >= 2:
            break
        time.sleep(0.01)
    assert process.poll() is None, "the sweep ended before it was killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {run.info.run_id for run in finished(store)}
    assert len(before) >= 2

    done = run_main(store, *SPACE, *GOAL)

    assert done.returncode == 0, done.stderr
    assert (
        "Decided at 95 %, least energy with pass@1 of at least 0.3: starter none b" in done.stdout
    )
    assert f"({len(before)} of them had finished before)" in done.stdout
    assert "the full grid, 2 runs of all 24 tasks, takes ~" in done.stdout
    after = finished(store)
    assert before < {run.info.run_id for run in after}
    parents = [
        run for run in runs_of("codejoule", store) if run.data.tags["codejoule.kind"] == "sweep"
    ]
    answered = [run.data.tags.get("codejoule.answer") for run in parents]
    assert [text for text in answered if text] == [
        line for line in done.stdout.splitlines() if line.startswith("Decided")
    ]
    fingerprints = [run.data.tags["codejoule.fingerprint"] for run in after]
    assert len(fingerprints) == len(set(fingerprints)), "nothing is run twice"


@pytest.mark.slow
def test_a_budget_that_is_spent_ends_the_sweep_and_is_said(store: Path) -> None:
    done = run_main(store, *SPACE, "hydra.sweeper.jobs=1", "isolation=inline")
    assert done.returncode == 0, done.stderr
    assert "Not decided (hydra.sweeper.jobs=1 is spent; still in question:" in done.stdout
    assert len(finished(store)) == 1


def options(**given: Any) -> Options:
    fields = {"max_batch_size", "params", "_target_"}
    defaults = {k: v for k, v in vars(ResolveConfig()).items() if k not in fields}
    return Options.of(defaults | given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"goal": "cheap"}, "choose one of front, least_energy, best_pass"),
        ({"goal": "best_pass"}, "hydra.sweeper.max_kwh=null"),
        ({"min_pass_at_1": 0.4}, "hydra.sweeper.min_pass_at_1=0.4"),
        ({"goal": "least_energy", "min_pass_at_1": 0.0}, "min_pass_at_1=0.0: must lie in (0, 1)"),
        ({"goal": "best_pass", "max_kwh": 0.0}, "max_kwh=0.0: must be above 0"),
        ({"run_sd": 0.0}, "run_sd=0.0: must be above 0"),
        ({"budget_kwh": 0.0}, "budget_kwh=0.0: must be above 0"),
        ({"budget_s": 0.0}, "budget_s=0.0: must be above 0"),
        ({"jobs": 0}, "jobs=0: must be at least 1"),
    ],
)
def test_a_goal_that_cannot_be_resolved_is_told(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(**given)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("swept", "said"),
    [
        ((["repeat=1"], ["repeat=2"]), "sets repeat and suite.extends itself"),
        ((["generation.rounds=2", "suite.shown_tests=1"],), "which repair rounds cannot"),
        ((["suite=starter"], ["suite=starter_large"]), "suite and generation cannot be swept over"),
    ],
)
def test_a_space_that_cannot_be_resolved_is_told(swept: Sequence[list[str]], said: str) -> None:
    register_schemas()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        configs = [compose("config", overrides=each) for each in swept]
    with pytest.raises(ConfigError, match=said):
        Resolver(configs, swept, options(), one_process=False)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("hydra.sweeper.goal=cheap",), "choose one of front, least_energy, best_pass"),
        (("evaluator=none",), "needs pass@1"),
    ],
)
def test_what_cannot_be_resolved_is_told_before_the_first_job(
    overrides: tuple[str, ...], said: str, store: Path
) -> None:
    done = run_main(store, *SPACE, *overrides)
    assert done.returncode == 1
    assert said in done.stderr
    assert not list(store.glob("mlruns/journals"))


@pytest.mark.slow
def test_looks_go_on_with_what_is_loaded_and_the_order_of_a_round_follows_it(store: Path) -> None:
    done = run_main(
        store, "-m", "hydra/sweeper=resolve", "quant=none,gptq4", "batch=b4,b8", "suite.limit=16",
        "hydra.sweeper.first=8", "hydra.sweeper.run_sd=0.5",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = sorted(finished(store), key=lambda run: int(run.info.start_time))
    loaded = ["energy_load_j" in run.data.metrics for run in runs]
    quants = [run.data.params["quant.name"] for run in runs]
    assert len(runs) == 8
    # The first of a kind loads; a round begins with the kind that the last one ended with.
    assert loaded == [i == 0 or quants[i] != quants[i - 1] for i in range(8)]
    assert loaded.count(True) == 3
    assert "Energy: runs differ by 50 %, assumed." in done.stdout


def test_a_model_that_cannot_be_had_is_not_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: object) -> None:
        raise UserError("the hub cannot be reached")

    monkeypatch.setattr(resolve, "forecast", missing)
    assert math.isnan(resolve._predicted_j(compose_sweep(["batch=b1"])[0]))


def test_jobs_of_a_round_that_share_what_is_loaded_follow_one_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In this process; it opens no store and runs nothing."""
    known = RunVariance(sd_log=0.01, df=math.inf, source=ASSUMED)
    monkeypatch.setattr(resolve, "_between", lambda own, _: [known] * len(own))
    space = [[f"quant={q}", f"batch={b}"] for q in ("none", "gptq4") for b in ("b4", "b8")]
    experiments = compose_sweep(["quant=none,gptq4", "batch=b4,b8", "suite.limit=16"])
    keys = vars(ResolveConfig()).keys() - {"_target_", "max_batch_size", "params"}
    options = resolve.Options.of({key: vars(ResolveConfig())[key] for key in keys} | {"first": 8})
    for one_process in (True, False):
        resolver = resolve.Resolver(experiments, space, options, one_process=one_process)
        asked = [resolver.next(1)[0] for _ in space]
        quants = [own[0] for own in asked]
        batches = [own[1] for own in asked]
        assert quants == sorted(quants, key=quants.index), "each kind is loaded once"
        assert ("isolation=shared" in asked[0]) is one_process
        if one_process:
            assert batches == ["batch=b8", "batch=b4"] * 2, "an engine starts with its largest"
