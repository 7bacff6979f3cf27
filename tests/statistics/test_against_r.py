"""Every statistic against R's, on the same data (tests/golden/statistics)."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import codejoule.statistics as s

GOLDEN = Path(__file__).parents[1] / "golden" / "statistics"
DIGITS = {"rel": 1e-6, "abs": 1e-12}


@pytest.fixture(scope="module")
def r():
    return json.loads((GOLDEN / "statistics.json").read_text())


@pytest.fixture(scope="module")
def tasks():
    rows = list(csv.DictReader((GOLDEN / "tasks.csv").open()))
    return {
        name: np.array([float(row[name]) for row in rows]) for name in rows[0] if name != "task"
    }


@pytest.fixture(scope="module")
def energy(tasks):
    return {name: tasks[f"energy_{name}"] for name in ("none", "gptq8", "gptq4")}


@pytest.fixture(scope="module")
def runs():
    """Log energy by configuration, run and task."""
    rows = list(csv.DictReader((GOLDEN / "runs.csv").open()))
    values = np.array([float(row["log_energy"]) for row in rows]).reshape(3, 3, 40)
    assert [row["configuration"] for row in rows[::120]] == ["none", "gptq8", "gptq4"]
    return values


def domains(tasks):
    return {name: tasks[name] == 1 for name in ("Computation", "Network", "Time")}


def same(ours, theirs):
    assert ours == pytest.approx(theirs, **DIGITS)


def test_durbin_watson(r, energy):
    same(s.durbin_watson(energy["none"]), r["durbin_watson"]["lmtest"])
    same(s.durbin_watson(energy["none"]), r["durbin_watson"]["car"])


def test_shapiro_wilk(r, energy):
    found = s.shapiro_wilk(energy["none"])
    same((found.statistic, found.p_value), tuple(r["shapiro_wilk"].values()))


def test_levene(r, energy):
    found = s.levene(list(energy.values()))
    same((found.statistic, found.p_value), tuple(r["levene_groups"].values()))
    found = s.levene([energy["none"][:60], energy["none"][60:]])
    same((found.statistic, found.p_value), tuple(r["levene_time"].values()))


@pytest.mark.parametrize("kind", ["thesis_regression", "hac_regression"])
def test_regression_with_all_its_statistics(kind, r, tasks, energy):
    fit = getattr(s, kind)(energy["none"], tasks["tokens"], domains(tasks))
    expected = r[kind]
    assert len(fit.terms) == len(expected["terms"])
    for term, theirs in zip(fit.terms, expected["terms"], strict=True):
        assert term.name == theirs["term"].replace("(Intercept)", "intercept")
        for name in (
            "coefficient", "standard_error", "statistic", "p_value", "ci_low", "ci_high",
        ):  # fmt: skip
            same(getattr(term, name), theirs[name])
    assert fit.statistics.keys() == expected["statistics"].keys()
    for name, value in expected["statistics"].items():
        same(fit.statistics[name], value)


def test_kruskal_wallis_with_its_effect_size(r, energy):
    found = s.kruskal_wallis(list(energy.values()))
    expected = r["kruskal_wallis"]
    same((found.statistic, found.p_value), (expected["h"], expected["p_value"]))
    same(found.effect, expected["epsilon_squared"])


def test_dunn(r, energy):
    names = list(energy)
    found = s.dunn(list(energy.values()))
    for row in r["dunn"]:
        same(found[names.index(row["a"]), names.index(row["b"])], row["p_value_holm"])
    assert np.array_equal(found, found.T)


def test_cliffs_delta(r, energy):
    same(s.cliffs_delta(energy["gptq4"], energy["none"]), r["cliffs_delta"])


def test_friedman_with_its_effect_size(r, energy):
    found = s.friedman(np.stack(list(energy.values()), axis=1))
    expected = r["friedman"]
    same((found.statistic, found.p_value), (expected["chi2"], expected["p_value"]))
    same(found.effect, expected["kendalls_w"])


def test_wilcoxon(r, energy):
    found = s.wilcoxon(energy["gptq8"], energy["none"])
    same((found.statistic, found.p_value), tuple(r["wilcoxon"]["asymptotic"].values()))
    few = np.log(energy["gptq8"][:20] + 0.001 * np.arange(1, 21))
    found = s.wilcoxon(few, np.log(energy["none"][:20]))
    same((found.statistic, found.p_value), tuple(r["wilcoxon"]["exact"].values()))


def test_holm(r):
    same(s.holm(r["holm"]["p"]), np.array(r["holm"]["adjusted"]))


@pytest.mark.parametrize("by", ["by_task", "by_batch"])
def test_log_ratio_with_cluster_robust_error(by, r, tasks, energy):
    window = np.arange(120) if by == "by_task" else tasks["batch"].astype(int)
    found = s.paired_log_ratio(
        np.log(energy["gptq8"])[None], np.log(energy["none"])[None], s.clusters([window]),
        resampler=s.Resampler(rng=np.random.default_rng(0)),
    )  # fmt: skip
    expected = r["log_ratio"][by]
    for name in ("ratio", "standard_error", "df", "p_value"):
        same(getattr(found, name), expected[name])
    if by == "by_task":
        same(found.p_value, r["log_ratio"]["t_test"])


def test_log_ratio_of_repeats_contains_variance_between_runs(r, runs):
    expected = r["log_ratio_repeats"]
    assert expected["v_more"] > 0
    labels = s.clusters([np.arange(40)])
    found = s.paired_log_ratio(
        runs[1], runs[0], labels, resampler=s.Resampler(rng=np.random.default_rng(0))
    )
    for name in ("ratio", "standard_error", "df", "p_value", "ci_low", "ci_high"):
        same(getattr(found, name), expected[name])
    assert found.between_runs


@pytest.mark.parametrize("design", ["one_run", "repeats"])
def test_mixed_model_to_four_digits(design, r, runs):
    logs = runs[:, :1] if design == "one_run" else runs
    found = s.mixed_model(logs)
    expected = r["mixed_model"][design]
    four = {"rel": 1e-4}
    assert found.means == pytest.approx(expected["means"], **four)
    assert found.contrast_error == pytest.approx(expected["contrast_standard_error"], **four)
    assert found.df == pytest.approx(expected["df"], **four)
    assert found.p_value(0, 1) == pytest.approx(expected["p_value"], rel=1e-3)
    assert found.sd_block == pytest.approx(expected["sd_block"], **four)
    assert found.sd_residual == pytest.approx(expected["sd_residual"], **four)
    if design == "repeats":
        assert found.sd_run == pytest.approx(expected["sd_run"], **four)
    else:
        assert np.isnan(found.sd_run)


def test_mcnemar_and_tango(r, tasks):
    expected = r["accuracy"]
    found = s.paired_accuracy(tasks["pass_gptq4"], tasks["pass_none"], margin=0.15)
    assert (found.gained, found.lost) == (expected["gained"], expected["lost"])
    for ours, theirs in (
        ("difference", "difference"), ("p_value", "p_value"), ("ci_low", "ci_low"),
        ("ci_high", "ci_high"), ("p_value_no_loss", "no_loss_p_value"),
    ):  # fmt: skip
        same(getattr(found, ours), expected[theirs])
    at_0 = s.tango_score(found.gained, found.lost, found.tasks, 0.0)
    same(at_0, expected["score_at_0"])
    same(at_0**2, expected["mcnemar_chi2"])


def test_rates_of_several_samples(r, tasks):
    expected = r["accuracy_rates"]
    a = (tasks["pass_gptq4"] + tasks["pass_gptq8"]) / 2
    b = (tasks["pass_none"] + tasks["pass_gptq8"]) / 2
    found = s.paired_accuracy(a, b, margin=0.1)
    assert found.method == "t"
    for ours, theirs in (
        ("difference", "difference"), ("p_value", "p_value"), ("ci_low", "ci_low"),
        ("ci_high", "ci_high"), ("p_value_no_loss", "no_loss_p_value"),
    ):  # fmt: skip
        same(getattr(found, ours), expected[theirs])


def test_reaching_a_pass_at_1(r, tasks):
    rates = {
        "binary": tasks["pass_none"],
        "rates": (tasks["pass_none"] + tasks["pass_gptq8"]) / 2,
    }
    for kind, values in rates.items():
        same(s.at_least(values, 0.4), r["at_least"][kind]["p_value"])
        same(s.lower_bound(values), r["at_least"][kind]["lower"])


def test_data_are_what_their_script_makes(tmp_path, monkeypatch):
    import importlib.util

    spec = importlib.util.spec_from_file_location("golden_data", GOLDEN / "data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path)
    module.main()
    for name in ("tasks.csv", "runs.csv"):
        assert (tmp_path / name).read_text() == (GOLDEN / name).read_text()
