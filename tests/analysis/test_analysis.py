"""From a store with figures of single tasks to tables, sentences and an answer."""

import csv
import json

import numpy as np
import pytest

from codejoule.analysis import (
    Goal,
    Options,
    analyse,
    comparable_groups,
    load_runs,
    read_tasks,
)
from codejoule.config import UserError
from codejoule.report import write_tables
from codejoule.statistics import Resampler, clusters, paired_log_ratio, wilcoxon
from tests.analysis.simulated import write_run, write_sweep
from tests.analysis.test_analyze import run as run_command


@pytest.fixture(scope="module")
def store(session_store, tmp_path_factory):
    return write_sweep(session_store[0], tmp_path_factory.mktemp("simulated"))


@pytest.fixture(scope="module")
def loaded(store):
    return load_runs(store.uri, store.experiment)


@pytest.fixture(scope="module")
def analysis(loaded):
    return analyse(loaded, Options(goal=Goal(min_pass_at_1=0.4)))


@pytest.fixture(scope="module")
def group(analysis):
    (group,) = analysis.groups
    return group


def row(group, table, **wanted):
    frame = group.tables[table].frame
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1, frame
    return frame.iloc[0]


@pytest.mark.slow
def test_figures_of_tasks_are_read_as_they_were_written(loaded):
    figures, notes = read_tasks(loaded.frame, uri=loaded.uri)
    assert notes == ()
    assert figures.energy_j.shape == (3, 60)
    totals = figures.energy_j.sum(axis=1)
    assert totals == pytest.approx(loaded.frame["metrics.energy_generation_j"])
    assert figures.passed.mean(axis=1) == pytest.approx(loaded.frame["metrics.pass_at_1"])
    assert figures.domains["Time"].sum() == 20
    assert figures.domains["General"].all()
    assert figures.output_tokens[0].tolist() == [20 + i for i in range(60)]


def test_pairs_are_those_of_the_statistics(group, loaded):
    figures, _ = read_tasks(loaded.frame, uri=loaded.uri)
    quants = loaded.frame["params.quant.name"].tolist()
    logs = {q: np.log(figures.energy_j[i]) for i, q in enumerate(quants)}
    found = row(
        group, "energy_pairs", configuration="qwen_7b gptq8 b1", reference="qwen_7b none b1"
    )
    expected = paired_log_ratio(
        logs["gptq8"][None], logs["none"][None], clusters([np.arange(60)]),
        resampler=Resampler(rng=np.random.default_rng(0)),
    )  # fmt: skip
    assert found["ratio"] == pytest.approx(expected.ratio)
    assert found["p_value"] == pytest.approx(expected.p_value)
    assert found["wilcoxon_p_value"] == pytest.approx(wilcoxon(logs["gptq8"], logs["none"]).p_value)
    assert found["verdict"] == "less"
    assert found["ci_low"] < 0.95 < found["ci_high"] < 1


def test_unpaired_test_misses_what_the_paired_finds_and_the_words_say_so(group):
    dunn = row(group, "dunn", configuration="qwen_7b gptq8 b1", reference="qwen_7b none b1")
    assert dunn["p_value_holm"] > 0.05
    words = row(
        group, "disagreements", configuration="qwen_7b gptq8 b1", reference="qwen_7b none b1",
        thesis_test="Dunn",
    )["words"]  # fmt: skip
    assert words.startswith("qwen_7b gptq8 b1 against qwen_7b none b1: Dunn's test (p = ")
    assert "finds no difference in energy, the paired comparison does:" in words
    assert any("disagree" in sentence for sentence in group.findings)


def test_same_pass_at_1_is_not_called_no_loss_without_the_tasks_for_it(group):
    found = row(
        group, "accuracy_pairs", configuration="qwen_7b gptq8 b1", reference="qwen_7b none b1"
    )
    # The same verdict on every task, and 60 tasks: 2 points are still not excluded.
    assert (found["lost"], found["gained"], found["p_value"]) == (0, 0, 1.0)
    assert not found["no_loss_shown"]
    words = row(
        group, "disagreements", configuration="qwen_7b gptq8 b1", thesis_test="no significance"
    )["words"]
    assert "It is no such evidence: a loss of 0.02 or more is not excluded" in words


def test_loss_of_the_worst_is_found(group):
    found = row(
        group, "accuracy_pairs", configuration="qwen_7b gptq4 b1", reference="qwen_7b none b1"
    )
    assert found["lost"] > 10
    assert found["gained"] == 0
    assert found["verdict"] == "lower"


def test_one_run_each_says_that_the_variance_between_runs_is_not_known(group):
    assert "one run each" in group.findings[0]
    assert "They do not contain the variance between runs" in group.findings[0]
    assert not group.tables["energy_pairs"].frame["between_runs"].any()
    assert group.tables["mixed_model"].frame["sd_run"].isna().all()


def test_answer_names_configuration_reference_and_doubt(group):
    advice = group.answer
    assert advice.goal == "at least 0.4 pass@1 with 95 % confidence, least energy"
    # gptq4 takes less, but solves too few tasks.
    assert advice.configuration == "qwen_7b gptq8 b1"
    assert advice.reference == "qwen_7b none b1"
    assert " J per run, not shown to differ from unquantized (" in advice.sentence
    assert ", with 95 % confidence at least 0." in advice.sentence
    assert any("% is assumed (repeat=1,2,3 tells)" in d for d in advice.doubts)


def test_front_has_probabilities_and_intervals(group):
    frame = group.tables["efficiency"].frame.set_index("configuration")
    assert frame["on_front"].to_dict() == {
        "qwen_7b none b1": False, "qwen_7b gptq8 b1": True, "qwen_7b gptq4 b1": True,
    }  # fmt: skip
    probability = frame["front_probability"]
    assert probability["qwen_7b gptq4 b1"] == 1.0
    assert probability["qwen_7b gptq8 b1"] > 0.95
    assert (frame["pass_at_1_per_kwh_ci_low"] < frame["pass_at_1_per_kwh"]).all()
    assert (frame["pass_at_1_per_kwh"] < frame["pass_at_1_per_kwh_ci_high"]).all()
    solved = frame["energy_per_solved_task_j"]
    assert solved.between(
        frame["energy_per_solved_task_j_ci_low"], frame["energy_per_solved_task_j_ci_high"]
    ).all()


def test_every_table_of_the_thesis_is_there(group):
    covered = " ".join(t.thesis for t in group.tables.values())
    for number in (
        "5.1", "5.2-5.4", "5.5-5.13", "5.15", "5.16", "5.17", "5.18", "5.20", "5.21", "5.22",
        "5.23", "5.24", "5.26", "5.27", "5.28", "5.29", "5.31", "5.32", "5.33", "5.34", "5.36",
        "5.37", "5.38", "5.39", "5.40", "4.6-4.9", "4.12",
    ):  # fmt: skip
        assert number in covered, number
    terms = set(group.tables["regression"].frame["term"])
    assert terms == {"output_tokens", "log_energy_lag1", "Time", "intercept"}
    assert set(group.tables["regression_statistics"].frame["dropped"]) == {"General"}


def test_everything_is_written_as_csv_latex_and_json(analysis, tmp_path):
    write_tables(analysis, tmp_path)
    whole = json.loads((tmp_path / "analysis.json").read_text())
    (group,) = whole["groups"]
    assert group["answer"]["configuration"] == "qwen_7b gptq8 b1"
    for name, table in group["tables"].items():
        rows = list(csv.DictReader((tmp_path / "tables" / f"{name}.csv").open()))
        assert len(rows) == len(table["rows"])
        assert list(rows[0]) == [column["name"] for column in table["columns"]]
        tex = (tmp_path / "tables" / f"{name}.tex").read_text()
        assert tex.count(r"\\") == len(rows) + 2
    (empty,) = [c for c in group["tables"]["mixed_model"]["rows"][0] if c is None]
    assert empty is None


def test_same_runs_give_the_same_figures(loaded, analysis):
    again = analyse(loaded, Options(goal=Goal(min_pass_at_1=0.4)))
    assert again.as_json() == analysis.as_json()


def test_sweep_is_chosen_by_name_or_id_and_an_unknown_one_is_told(store, loaded):
    parent = loaded.frame.at[0, "sweep"]
    for sweep in ("quantizations", parent):
        assert len(load_runs(store.uri, store.experiment, sweep=sweep).frame) == 3
    with pytest.raises(UserError, match="no such sweep; choose one of quantizations"):
        load_runs(store.uri, store.experiment, sweep="other")


def test_gpus_are_mixed_only_when_told(recorder, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for quant, gpu in (("none", "L40S"), ("gptq8", "H100")):
        write_run(
            recorder.store, tmp_path, quant=quant, energy_j=rng.random(20) + 1,
            passed=np.ones(20), tags={"codejoule.gpu": gpu},
        )  # fmt: skip
    runs = load_runs(recorder.store.uri, recorder.store.experiment)
    apart = analyse(runs)
    assert len(apart.groups) == 2
    assert "they differ in GPU. --mix puts kinds together" in apart.notes[0]
    assert all(g.tables["energy_pairs"].frame.empty for g in apart.groups)
    together = analyse(runs, Options(mix=("GPU",)))
    (one,) = together.groups
    assert "mixed on purpose: GPU" in one.group.title
    assert one.evidence.labels == ("qwen_7b none b1 GPU=L40S", "qwen_7b gptq8 b1 GPU=H100")
    with pytest.raises(ValueError, match="cannot mix colour: choose among suite, split"):
        comparable_groups(runs.frame, mix=["colour"])
    with pytest.raises(UserError, match="--mix colour: no such fact; choose among suite"):
        run_command(recorder, tmp_path, "--mix", "colour")
    assert run_command(recorder, tmp_path / "out", "--mix", "GPU") == 0
    assert "mixed on purpose: GPU" in capsys.readouterr().out


def test_published_runs_are_shown_and_never_mixed_with_measured(recorder, tmp_path):
    rng = np.random.default_rng(0)
    write_run(
        recorder.store, tmp_path, quant="none", energy_j=rng.random(20) + 1, passed=np.ones(20)
    )
    for quant, kwh, pass_at_1 in (("none", 0.82, 0.45), ("gptq4", 0.30, 0.44)):
        run = recorder.store.start_run(
            name="published", parent_run_id=None,
            tags={"codejoule.published": "true", "codejoule.fingerprint": quant,
                  "codejoule.gpu": "NVIDIA L40S", "codejoule.energy_source": "published",
                  "codejoule.energy_scope": "gpu"},
            params={"model.name": "qwen_7b", "quant.name": quant, "batch.size": 1,
                    "engine.name": "generate", "generation.name": "greedy",
                    "suite.name": "bigcodebench", "suite.split": "instruct", "repeat": 1},
        )  # fmt: skip
        run.log(
            metrics={"energy_generation_j": kwh * 3.6e6, "pass_at_1": pass_at_1, "tasks": 1140.0}
        )
        run.finish("FINISHED")
    loaded = load_runs(recorder.store.uri, recorder.store.experiment)
    analysis = analyse(loaded, Options(goal=Goal(min_pass_at_1=0.40)))
    # That a publication has none goes without saying.
    assert not any("figures of single tasks" in note for note in analysis.notes)
    measured, published = analysis.groups
    assert (measured.group.published, published.group.published) == (False, True)
    assert "published figures" in published.group.title
    saved = published.tables["reductions"].frame.iloc[0]
    assert saved["reduction_percent"] == pytest.approx(100 * (1 - 0.30 / 0.82))
    assert published.tables["energy_pairs"].frame.empty
    assert published.tables["efficiency"].frame["on_front"].tolist() == [True, True]
    assert published.tables["efficiency"].frame["front_probability"].isna().all()
    assert published.answer.configuration == "qwen_7b gptq4 b1"
    assert any("as rounded there" in u for u in published.answer.doubts)
    assert ", in these runs 63 % less than unquantized;" in published.answer.sentence
    assert any("varies from run to run is not known" in u for u in published.answer.doubts)


def test_command_answers_in_25_lines(store, tmp_path, capsys):
    import types

    recorder = types.SimpleNamespace(store=store)
    arguments = ("--min-pass-at-1", "0.4", "--margin", "0.1", "--sweep", "quantizations")
    assert run_command(recorder, tmp_path, *arguments) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[1].startswith("Take qwen_7b gptq8 b1: ")
    assert len(printed.splitlines()) <= 25
    assert run_command(recorder, tmp_path, *arguments, "--full") == 0
    printed = capsys.readouterr().out
    assert "no loss beyond 0.1 is shown" in printed
    assert max(map(len, printed.splitlines()[:-4])) <= 120
    for wrong, message in (
        (("--min-pass-at-1", "40"), "min_pass_at_1=40 must lie between 0 and 1"),
        (("--max-kwh", "0"), "max_kwh=0 must be above 0"),
        (("--margin", "2"), "--margin 2 must lie between 0 and 1"),
    ):
        with pytest.raises(UserError, match=message):
            run_command(recorder, tmp_path, *wrong)
