"""Repair rounds: who is asked again, by what it is judged, and what each round costs."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from codejoule.analysis import analyse, load_runs
from codejoule.config import ConfigError, conf_folder
from codejoule.config.compose import register_schemas
from codejoule.config.typed import to_experiment
from codejoule.domain import Status
from codejoule.experiment.evaluation_stage import evaluate
from codejoule.experiment.generation_stage import generate, has_generated
from codejoule.experiment.plan import Plan, make_plan
from codejoule.experiment.records import Results, read_results, records_of, task_records
from codejoule.experiment.results import metrics_of
from codejoule.experiment.rounds import asked_in, each_round
from codejoule.report.terminal import render_group
from codejoule.tracking import Journal
from codejoule.tracking.entries import Batch, ShownJudged
from tests.experiment.job import entries_of, left_by, run_main, runs_of, start_main
from tests.generation.served import event, told_server

FIXED = (
    "device=cpu", "meter=cpu_estimate", "meter.idle_s=0", "suite.limit=6", "suite.shown_tests=1",
    "generation.rounds=3", "engine.warmup_batches=0", "evaluator.workers=1", "batch.size=3",
)  # fmt: skip


@pytest.fixture(scope="module")
def plan_for() -> Callable[..., Plan]:
    def make(*overrides: str) -> Plan:
        register_schemas()
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            return make_plan(to_experiment(compose("config", [*FIXED, *overrides])))

    return make


def run(plan: Plan, folder: Path) -> tuple[Results, dict[str, float]]:
    """Generate and judge; what the journal says, and the run's metrics."""
    generate(plan, folder)
    assert has_generated(plan, folder)
    evaluate(plan, folder, name="rounds")
    results = read_results(folder)
    attempts = task_records(plan, results)
    records = records_of(results, attempts)
    return results, metrics_of(plan, results, records, None, attempts)


def samples_of(results: Results) -> list[set[tuple[str, int]]]:
    """Of each round, which samples were generated."""
    return [
        {(c.task_id, c.sample) for n in each.windows for c in results.batches[n].completions}
        for each in results.rounds
    ]


def check(plan: Plan, results: Results, metrics: Mapping[str, float]) -> None:
    """Who is asked again are those that failed; all energies add up; the last round counts."""
    samples = samples_of(results)
    for each, (before, after) in zip(results.rounds, pairwise([*samples, set()]), strict=True):
        verdicts = each.shown.verdicts
        assert verdicts.keys() in (before, set()), "the last round is not judged by shown tests"
        failed = {key for key, v in verdicts.items() if v.status is not Status.passed}
        assert after == failed, "what passes is not asked again"
    rounds = plan.experiment.generation.rounds
    generation_j = [
        metrics[f"energy_generation_round_{n}_j"] for n in range(1, len(results.rounds) + 1)
    ]
    assert sum(generation_j) == pytest.approx(metrics["energy_generation_j"])
    assert metrics["pass_at_1"] == metrics[f"pass_at_1_round_{rounds}"]
    total_j = 3.6e6 * metrics["energy_total_kwh"]
    assert total_j == pytest.approx(metrics["energy_generation_j"] + metrics["energy_evaluation_j"])
    attempts = task_records(plan, results)
    records = records_of(results, attempts)
    assert len(records) == sum(map(len, plan.batches)), "a row per sample"
    assert sum(r.energy_j or 0 for r in records) == pytest.approx(metrics["energy_generation_j"])
    assert sum(r.evaluation_energy_j or 0 for r in records) == pytest.approx(
        metrics["energy_evaluation_j"]
    )
    assert sum(r.output_tokens for r in records) == metrics["output_tokens"]
    windows = {attempt.batch for attempt in attempts}
    assert sorted(windows) == list(range(len(results.batches))), "windows are counted through"


def test_only_programs_that_fail_the_shown_tests_are_asked_again(
    plan_for: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = plan_for()
    results, metrics = run(plan, tmp_path)
    check(plan, results, metrics)
    first, second, *_ = samples_of(results)
    assert second < first, "some pass and some fail"
    assert metrics["samples_round_2"] == len(second)
    with Journal(tmp_path) as journal:
        asked = asked_in(plan, journal)
    for task_id, sample in second:
        prompt = asked(2, task_id, sample)
        assert prompt.endswith(plan.tasks[task_id].complete_prompt)
        assert "# The script fails tests with this output:\n" in prompt
        assert plan.tasks[task_id].canonical_solution not in prompt


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["static", "graph", "continuous", "vllm"])
def test_every_engine_repairs(
    engine: str,
    plan_for: Callable[..., Plan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("codejoule.measurement.meter.SHORTEST_READ_SLICE_S", 0.001)
    fake = Path(__file__).parents[1] / "generation" / "fake_vllm"
    monkeypatch.setenv("PYTHONPATH", str(fake))
    monkeypatch.setenv("FAKE_VLLM", json.dumps({"letters": list(range(40, 66)), "step_s": 0.005}))
    own = [f"engine.python={sys.executable}"] if engine == "vllm" else []
    plan = plan_for(f"engine={engine}", *own)
    results, metrics = run(plan, tmp_path)
    check(plan, results, metrics)
    assert len(results.rounds) == 3
    assert results.loads == 1, "the model stays loaded"


@pytest.mark.slow
def test_each_sample_of_a_task_repairs_itself(
    plan_for: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = plan_for(
        "generation=sample", "generation.n_samples=2", "generation.rounds=2", "suite.limit=4"
    )
    results, metrics = run(plan, tmp_path)
    check(plan, results, metrics)
    (_, again) = samples_of(results)
    with Journal(tmp_path) as journal:
        asked = asked_in(plan, journal)
        (*_, second) = each_round(plan, journal)
    assert second.plan.seed(0) != plan.seed(0), "a round draws anew"
    own = {key for key in again if (key[0], 1 - key[1]) in again}
    for task_id, sample in own:
        assert asked(2, task_id, sample) != asked(2, task_id, 1 - sample)


def test_a_model_that_learns_from_the_output_gains_by_a_round(
    plan_for: Callable[..., Plan], tmp_path: Path
) -> None:
    solutions: dict[str, str] = {}

    def answer(body: dict[str, Any]) -> tuple[int, list[str]]:
        torch.randn(300, 300).matrix_power(20)  # long enough for CPU time to tick
        prompt, told = body["prompt"], "fails tests with this output" in body["prompt"]
        # The engine tries the server with a prompt of its own.
        found = next((s for p, s in solutions.items() if prompt.endswith(p)), "")
        return 200, [event(found if told else "    return None\n"), event("", "stop")]

    with told_server(answer) as url:
        plan = plan_for("engine=server", f"engine.url={url}", "engine.window_tasks=3")
        solutions |= {t.complete_prompt: t.canonical_solution for t in plan.suite.tasks}
        results, metrics = run(plan, tmp_path)
    check(plan, results, metrics)
    after = [metrics[f"pass_at_1_round_{n}"] for n in (1, 2, 3)]
    assert after == [0, 1, 1]
    assert len(results.rounds) == 2, "nothing is left to repair"
    assert metrics["samples_round_3"] == 0
    assert "energy_generation_round_3_j" not in metrics, "not measured is absent"
    assert "energy_per_solved_task_round_1_j" not in metrics, "none was solved"
    assert metrics["energy_per_solved_task_round_2_j"] < metrics["energy_per_solved_task_round_3_j"]
    assert metrics["energy_per_solved_task_round_3_j"] == pytest.approx(
        metrics["energy_per_solved_task_j"]
    )


@pytest.mark.slow
def test_a_run_broken_off_anywhere_ends_alike(
    plan_for: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = plan_for("generation.rounds=2")
    whole = tmp_path / "whole"
    generate(plan, whole)
    lines = (whole / "journal.jsonl").read_text().splitlines(keepends=True)
    kinds = [json.loads(line)["kind"] for line in lines]
    last_of = {kind: len(kinds) - kinds[::-1].index(kind) for kind in set(kinds)}
    cuts = [
        last_of["batch"],  # nothing is judged yet
        kinds.index("shown_verdicts") + 1,  # some are
        kinds.index("batch_2"),  # all are
    ]

    def programs(folder: Path) -> list[list[tuple[str, str]]]:
        results = read_results(folder)
        return [
            sorted(
                (c.task_id, c.text) for n in each.windows for c in results.batches[n].completions
            )
            for each in results.rounds
        ]

    for cut in cuts:
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "journal.jsonl").write_text("".join(lines[:cut]))
        assert not has_generated(plan, folder)
        generate(plan, folder)
        assert programs(folder) == programs(whole)
        with Journal(folder) as journal:
            shown = [v for entry in journal.entries(ShownJudged) for v in entry.verdicts]
            assert len(shown) == sum(map(len, plan.batches)), "none is judged twice"
            assert journal.of_round(2).count(Batch) == kinds.count("batch_2")


def test_what_does_not_fit_the_context_is_not_repaired_and_counted(
    plan_for: Callable[..., Plan], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_for("generation.max_new_tokens=780", "generation.rounds=2", "suite.limit=3")
    generate(plan, tmp_path)
    with Journal(tmp_path) as journal:
        *_, second = each_round(plan, journal)
        failed = [
            v for e in journal.entries(ShownJudged) for v in e.verdicts if v.status.value != "pass"
        ]
    assert len(second.too_long) == len(failed) > 0
    assert f"{len(failed)} programs that failed are not repaired" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["suite.shown_tests=null"],
            "suite.shown_tests=null: generation.rounds=3 gives the output",
        ),
        (["evaluator=none"], "evaluator=none judges nothing"),
        (["stage=generate"], "generation.rounds=3 judges each round before the next, where it is"),
        (["suite.extends=3"], "nothing of an earlier run can be taken over"),
        (["generation.rounds=0"], "must be at least 1, which repairs nothing"),
    ],
)
def test_what_cannot_be_repaired_is_refused(
    overrides: list[str], said: str, plan_for: Callable[..., Plan]
) -> None:
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        plan_for(*overrides)


def test_rounds_and_shown_tests_are_part_of_what_a_run_is(plan_for: Callable[..., Plan]) -> None:
    plans = [plan_for(), plan_for("generation.rounds=2"), plan_for("suite.shown_tests=2")]
    assert len({plan.fingerprint for plan in plans}) == 3


@pytest.mark.slow
def test_a_killed_run_continues_in_its_round_and_the_analysis_shows_the_rounds(
    store: Path,
) -> None:
    overrides = (
        "suite.limit=12", "suite.shown_tests=1", "generation.rounds=3", "batch=b4",
    )  # fmt: skip
    process = start_main(store, *overrides, new_session=True)
    deadline = time.monotonic() + 120
    while not any(entry["kind"] == "batch_2" for entry in entries_of(store)):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = run_main(store, *overrides)
    assert done.returncode == 0, done.stderr
    (rounds,) = left_by("codejoule", store, "rounds.jsonl")
    rows = [json.loads(line) for line in rounds.read_text().splitlines()]
    asked = [(row["task_id"], row["sample"], row["round"]) for row in rows]
    assert len(asked) == len(set(asked)), "nothing twice"
    (samples,) = left_by("codejoule", store, "samples.jsonl")
    last = {row["task_id"]: row["solution"] for row in rows}
    kept = [json.loads(line) for line in samples.read_text().splitlines()]
    assert {row["task_id"]: row["solution"] for row in kept} == last
    loaded = load_runs(f"sqlite:///{store}/mlruns/mlflow.db", "codejoule")
    (group,) = analyse(loaded).groups
    (run,) = [r for r in runs_of("codejoule", store) if r.info.status == "FINISHED"]
    table = group.tables["rounds"].frame
    assert list(table["round"]) == [1, 2, 3]
    assert np.isclose(table["pass_at_1"].iloc[-1], run.data.metrics["pass_at_1"])
    assert "Repair rounds:" in render_group(group)
