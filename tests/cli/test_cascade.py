"""``codejoule cascade``: on figures that are known, and on real runs of the bundled model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import codejoule
from codejoule.analysis import Group
from codejoule.cli import main
from codejoule.cli.cascade import report
from codejoule.cli.cascade.found import find
from codejoule.cli.cascade.real import require_alike
from codejoule.cli.cascade.study import Study
from codejoule.config import ConfigError, UserError
from codejoule.config.schema import TrackingConfig
from codejoule.statistics import RunVariance
from codejoule.statistics.policies import Members, Wanted
from codejoule.tracking import prepare_store
from tests.analysis.simulated import write_run

TASKS, SHORT = 24, 40
"""Tokens of the small member: some programs are short enough for them."""
SMALL, LARGE = (f"none b2 max_new_tokens={tokens}" for tokens in (SHORT, 160))


def known(*, tasks: int = 200, small: float = 0.6, small_j: float = 1.0) -> Study:
    """A small model that solves some tasks, and a large one that solves four of five for 10 J."""
    rng = np.random.default_rng(1)
    hard = rng.random(tasks)
    solved = np.array([hard < small, hard < 0.8]).astype(float)
    energy_j = np.array([[small_j], [10.0]]) * rng.uniform(0.9, 1.1, solved.shape)
    return Study(
        group=Group(facts={"suite": "mine", "energy source": "nvml"}, frame=pd.DataFrame()),
        names=("small b8", "large b8"), configs=({}, {}),
        members=Members(
            energy_j=energy_j, judging_j=np.full_like(energy_j, 0.01), accepted=solved,
            solved=solved, accepted_solved=solved,
        ),
        task_ids=tuple(f"t{i}" for i in range(tasks)),
        features={"domain": rng.integers(3, size=tasks)}, labels=np.arange(tasks),
        variance=RunVariance(sd_log=0.02, df=5, source="assumed"), runs=1, shown=2, whole=3,
        unmetered=0,
    )  # fmt: skip


def test_a_cascade_reaches_what_only_the_large_model_does_for_less() -> None:
    found = find(known(), Wanted(min_pass_at_1=0.7))
    assert found.names[found.best.policy] == "small b8 then large b8"
    assert found.names[found.best_model.policy] == "large b8"
    ratio, low, high = found.energy_ratio
    assert low < ratio < high < 0.7
    difference, least, most = found.pass_difference
    assert least < difference == 0 < most, "equal figures are not certainty"
    told = report.text(found)
    assert "shown: the first 2 tests of each task, the verdict is by the others" in told
    assert "For least energy with pass@1 of at least 0.7: small b8 then large b8." in told
    assert (
        "it is chosen in 10 of 10 folds. Against the single model for the same, large b8: " in told
    )
    assert "3 tasks have no tests to show" in told
    assert "~" not in told, "these are measured"
    document = report.as_json(found, None)
    assert document["best"] == "small b8 then large b8" and document["run"] is None
    (both,) = [p for p in document["policies"] if p["policy"] == document["best"]]
    assert both["on_front"] and both["members"] == ["small b8", "large b8"]
    json.dumps(document)


def test_a_large_model_that_is_no_better_makes_no_cascade() -> None:
    found = find(known(small=0.9), Wanted())
    assert found.names[found.best.policy] == "small b8"
    assert "no cascade and no routing is better for this" in report.sentence(found)
    assert found.front.tolist().count(True) == 1, "nothing but the small model is on the front"
    assert found.front_of_models[:2].tolist() == [True, False]


def test_a_goal_that_nothing_reaches_is_said() -> None:
    said = report.sentence(find(known(), Wanted(min_pass_at_1=0.95)))
    assert "(which does not reach it)" in said


def test_held_out_tasks_are_what_a_run_is_for() -> None:
    found = find(known(), Wanted(), hold_out=0.25, named="small b8  then large b8")
    assert (int(found.asked.sum()), int(found.run_tasks.sum())) == (150, 50)
    assert not (found.asked & found.run_tasks).any()
    assert found.names[found.policy] == "small b8 then large b8"
    own = found.prediction
    assert own.pass_at_1_low < own.pass_at_1 < own.pass_at_1_high
    assert own.energy_low_j < own.energy_j < own.energy_high_j
    assert "Figures are of 150 tasks; the other 50 are held out." in report.text(found)


def test_routing_that_always_chooses_one_model_is_that_model() -> None:
    names = find(known(small=0.9), Wanted()).names
    assert "by domain, worth 0" not in names and len(names) == 4


def test_a_policy_that_there_is_not_and_too_few_tasks_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--policy 'small': no such policy; there are \d+"):
        find(known(), Wanted(), named="small")
    with pytest.raises(UserError, match="too few to choose a policy by: it takes 10 tasks and 8"):
        find(known(tasks=9), Wanted())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--hold-out", "1"), "--hold-out 1: a share from 0 to below 1, e.g. 0.5"),
        (("--shown", "0"), "--shown 0: at least 1 test is shown"),
        (("--min-pass-at-1", "2"), "2: pass@1 to reach lies between 0 and 1"),
        (("--mix", "colour"), "--mix colour: no such fact; choose among suite, split"),
    ],
)
def test_arguments_that_cannot_be_are_refused(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cascade("sqlite:////nowhere/mlflow.db", *arguments) == 2
    assert said in capsys.readouterr().err


def test_runs_of_other_cards_and_of_no_programs_are_not_combined(
    with_database: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = prepare_store(TrackingConfig(dir=str(with_database(tmp_path) / "mlruns")))
    figures = {"energy_j": np.ones(20), "passed": np.ones(20, dtype=bool)}
    for quant, card in (("none", "NVIDIA L40S"), ("gptq4", "NVIDIA L40S"), ("none", "NVIDIA H200")):
        write_run(others, tmp_path, quant=quant, tags={"codejoule.gpu": card}, **figures)
    assert cascade(others.uri) == 2
    told = capsys.readouterr().err
    assert "these differ in GPU (NVIDIA H200, NVIDIA L40S); narrow them with --where" in told
    h200 = Group(facts={"energy source": "nvml", "GPU": "NVIDIA H200"}, frame=pd.DataFrame())
    run_id = others.latest_finished(most=1)[0].run_id
    with pytest.raises(UserError, match=r"differs in energy scope .* \(gpu, and not none\), so"):
        require_alike(h200, others, run_id)
    l40s = "tags.`codejoule.gpu` = 'NVIDIA L40S'"
    assert cascade(others.uri, "--where", l40s) == 2
    assert "lacks config.yaml, tasks.parquet or samples.jsonl" in capsys.readouterr().err
    assert cascade(others.uri, "--where", f"{l40s} and params.quant.name = 'none'") == 2
    assert "of 2 to 8 configurations, and these runs are of 1" in capsys.readouterr().err
    assert cascade(others.uri, "--where", "params.quant.name = 'awq'") == 2
    assert "has no finished runs to make policies of" in capsys.readouterr().err


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, with_database: Callable[[Path], Path]) -> str:
    """A small member, which is cut off after a few tokens and cheap, and the whole one."""
    folder = with_database(tmp_path_factory.mktemp("cascade"))
    codejoule.run(
        "model=starter", f"generation.max_new_tokens={SHORT},160", f"suite.limit={TASKS}",
        "batch.size=2", "meter=cpu_estimate", "tracking.traces=0", f"tracking.dir={folder}/mlruns",
    )  # fmt: skip
    return f"sqlite:///{folder}/mlruns/mlflow.db"


def cascade(store: str, *more: str) -> int:
    return main(["cascade", "--tracking-uri", store, *more])


def found(store: str, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    assert cascade(store, *more, "--json") == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def names(policies: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {policy["policy"]: policy for policy in policies}


@pytest.mark.slow
def test_a_cascade_lies_between_its_members(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    document = found(store, capsys)
    policies = names(document["policies"])
    small, both = policies[SMALL], policies[f"{SMALL} then {LARGE}"]
    assert small["energy_per_task_j"] < both["energy_per_task_j"]
    assert small["pass_at_1"] < both["pass_at_1"] <= 1
    assert both["energy_per_task_ci_j"][0] < both["energy_per_task_j"]
    assert both["members"] == [SMALL, LARGE]
    assert document["tasks"] == TASKS and document["tasks_held_out"] == 0
    assert document["shown_tests"] == 1
    assert small["on_front"] or not small["on_front_of_models"]


@pytest.mark.slow
def test_programs_are_judged_once(
    store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = found(store, capsys)
    monkeypatch.setattr("codejoule.experiment.evaluation_stage._judge", _nobody)
    assert found(store, capsys) == first


def _nobody(*_: object) -> None:
    raise AssertionError("a program was judged again")


@pytest.mark.slow
def test_a_cascade_is_carried_out_on_tasks_that_did_not_choose_it(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = f"{SMALL} then {LARGE}"
    document = found(store, capsys, "--hold-out", "0.4", "--policy", policy, "--run")
    run, predicted = document["run"], document["predicted"]
    first, second = run["steps"]
    assert (document["tasks"], run["tasks"], first["tasks"]) == (14, 10, 10)
    assert second["tasks"] == first["refused"] > 0 and second["refused"] is None
    assert predicted["policy"] == policy
    assert predicted["pass_at_1_low"] <= run["pass_at_1"] <= predicted["pass_at_1_high"]
    total_j = sum(step["energy_j"] + step["judging_j"] for step in run["steps"])
    assert run["energy_j"] == pytest.approx(total_j / 10)
    folder = Path(store.removeprefix("sqlite:///")).parent
    kept = prepare_store(TrackingConfig(dir=str(folder)))
    parent = kept.read(run["run_id"])
    assert parent is not None and parent.status == "FINISHED"
    assert parent.metrics["pass_at_1"] == run["pass_at_1"]
    assert parent.metrics["energy_policy_per_task_j"] == pytest.approx(run["energy_j"])
    for step in run["steps"]:
        own = kept.read(step["run_id"])
        assert own is not None and own.status == "FINISHED"
        assert own.tags["mlflow.parentRunId"] == run["run_id"]
        assert own.params["suite.shown_tests"] == "1"
        assert own.metrics["energy_generation_j"] == pytest.approx(step["energy_j"])
    # What was carried out is no member of later policies.
    again = found(store, capsys)
    assert len(again["policies"]) >= 4 and again["tasks"] == TASKS
