"""``codejoule gate``: its three verdicts, its exit codes, and that nothing else has one of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codejoule.cli import main
from codejoule.config.schema import TrackingConfig
from codejoule.tracking import Store, prepare_store
from tests.analysis.simulated import write_run

TASKS = 400
SPREAD = (0.995, 1.0, 1.005)
"""Of three runs of one configuration: 0.5 %."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, with_database: Callable[[Path], Path]) -> Store:
    """A release, and what became of it: the same, hungrier, worse at its tasks, a single run."""
    project, files = with_database(tmp_path_factory.mktemp("gate")), tmp_path_factory.mktemp("f")
    store = prepare_store(TrackingConfig(experiment="codejoule", dir=f"{project}/mlruns"))
    rng = np.random.default_rng(1)
    task_j, ability = np.exp(rng.normal(4, 0.5, TASKS)), rng.permutation(TASKS)
    for name, factor, solved, tags in (
        ("base", 1.0, 240, {}),
        ("same", 1.001, 240, {}),
        ("hungry", 1.3, 240, {}),
        ("forgetful", 1.0, 160, {}),
        ("near", 1.05, 234, {}),
        ("hot", 1.0, 240, {"codejoule.validity": "throttled"}),
        ("elsewhere", 1.0, 240, {"codejoule.gpu": "NVIDIA H200"}),
    ):
        parent = store.start_sweep(name, overrides=[], tags={})
        for repeat, spread in enumerate(SPREAD, start=1):
            write_run(
                store, files, quant="none", parent=parent, repeat=repeat,
                energy_j=task_j * factor * spread, passed=ability < solved,
                tags={"release": name, "codejoule.fingerprint": f"{name} {repeat}"} | tags,
            )  # fmt: skip
        store.end_sweep(parent, "FINISHED")
    parent = store.start_sweep("two", overrides=[], tags={})
    for quant in ("none", "gptq4"):
        write_run(store, files, quant=quant, parent=parent, energy_j=task_j, passed=ability < 240)
    return store


def gate(store: Store, candidate: str, *more: str, baseline: str = "base") -> int:
    limits = more or ("--max-energy-increase", "5%", "--max-pass-loss", "0.02")
    sides = ["--baseline", baseline, "--candidate", candidate]
    return main(["gate", *sides, *limits, "--tracking-uri", store.uri])


def judged(
    store: Store, capsys: pytest.CaptureFixture[str], candidate: str, *more: str
) -> tuple[int, dict[str, Any]]:
    limits = more or ("--max-energy-increase", "5%", "--max-pass-loss", "0.02")
    code = gate(store, candidate, *limits, "--json")
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 2
    assert document["exit_code"] == code
    return code, document


def test_what_is_shown_not_worse_passes(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = judged(store, capsys, "same")
    assert (code, document["verdict"]) == (0, "ok")
    energy, passed = document["energy"], document["pass_at_1"]
    assert energy["ratio_low"] < 1.001 < energy["ratio_high"] <= 1.05
    assert passed["difference"] == 0 and passed["difference_low"] >= -0.02
    assert document["baseline"]["configuration"] == "qwen_7b none b1"
    assert len(document["candidate"]["run_ids"]) == 3


@pytest.mark.parametrize(("candidate", "name"), [("hungry", "energy"), ("forgetful", "pass_at_1")])
def test_what_is_shown_worse_in_one_is_worse(
    candidate: str, name: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = judged(store, capsys, candidate)
    assert (code, document["verdict"]) == (1, "worse")
    others = {"energy", "pass_at_1"} - {name}
    assert document[name]["verdict"] == "worse"
    assert [document[other]["verdict"] for other in others] == ["ok"]


def test_what_is_neither_says_what_it_would_take(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = judged(store, capsys, "near")
    assert (code, document["verdict"]) == (2, "not_resolved")
    assert document["pass_at_1"]["needed_tasks"] > TASKS
    assert gate(store, "near") == 2
    told = capsys.readouterr().out
    assert "NOT RESOLVED" in told and "tasks, if the difference stays" in told


def test_only_what_is_asked_for_is_judged(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = judged(store, capsys, "forgetful", "--max-energy-increase", "0.05")
    assert code == 0 and "pass_at_1" not in document


def test_a_run_that_was_slowed_down_shows_no_energy(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = judged(store, capsys, "hot")
    assert code == 2
    assert document["candidate"]["validity"] == "throttled"
    assert "slowed down by heat" in document["reasons"][0]


def test_runs_are_selected_by_ids_filters_and_sweeps(store: Store) -> None:
    ids = ",".join(
        run.info.run_id
        for run in store._client.search_runs([store.experiment_id], "tags.release = 'same'")
    )
    for candidate in (ids, "tags.release = 'same'", "same"):
        assert gate(store, candidate) == 0


@pytest.mark.parametrize(
    ("candidate", "more", "said"),
    [
        ("elsewhere", (), "they differ in GPU (NVIDIA H200, NVIDIA L40S)"),
        ("two", (), "2 configurations (qwen_7b none b1, qwen_7b gptq4 b1); narrow it to one"),
        ("base", (), "on both sides: run "),
        ("nobody", (), "--candidate 'nobody': --sweep 'nobody': no such sweep"),
        ("same", ("--max-energy-increase", "five"), "--max-energy-increase five: must be a share"),
        ("same", ("--max-pass-loss", "2"), "--max-pass-loss 2: must be a share above 0 and below"),
    ],
)
def test_what_cannot_be_judged_is_no_verdict(
    candidate: str,
    more: tuple[str, ...],
    said: str,
    store: Store,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert gate(store, candidate, *more) == 3
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["--candidate", "x"], ["--baseline"], ["--bogus"], ["--baseline", "x", "--candidate", "y"]],
)
def test_wrong_arguments_are_not_taken_for_a_verdict(arguments: list[str]) -> None:
    try:
        code = main(["gate", *arguments])
    except SystemExit as ended:
        code = int(str(ended.code))
    assert code == 3
