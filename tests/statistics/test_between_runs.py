"""Comparing runs on the same tasks: what varies is the run."""

import csv
import math
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from codejoule.statistics import (
    ASSUMED,
    REPEATS,
    RunVariance,
    compare_runs,
    moderated_variance,
    pooled_run_variance,
    reference_variance,
    smallest_ratio,
    variance_words,
)

GOLDEN = Path(__file__).parents[1] / "golden"


def assumed(sd_log: float) -> RunVariance:
    return RunVariance(sd_log=sd_log, df=math.inf, source=ASSUMED)


def test_with_two_groups_of_repeats_it_is_the_two_sample_t_test() -> None:
    rng = np.random.default_rng(1)
    a, b = np.exp(rng.normal(3.0, 0.02, 4)), np.exp(rng.normal(3.03, 0.02, 3))
    variance = pooled_run_variance([a, b])
    assert variance is not None and variance.df == 5
    found = compare_runs(a, b, variance=variance)
    expected = stats.ttest_ind(np.log(a), np.log(b))
    assert found.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx(
        (math.exp(interval.low), math.exp(interval.high))
    )


def test_single_runs_borrow_the_variance_of_other_configurations() -> None:
    repeats = [[100.0, 102.0, 99.0], [10.0, 10.1], [5.0]]
    variance = pooled_run_variance(repeats)
    assert variance is not None and variance.df == 3
    found = compare_runs([188.0], [100.0], variance=variance)
    assert found.ratio == pytest.approx(1.88)
    assert found.resolved and 1.7 < found.low < 1.88 < found.high < 2.05
    assert not compare_runs([101.0], [100.0], variance=variance).resolved


def test_without_repeats_or_with_equal_ones_nothing_is_known() -> None:
    assert pooled_run_variance([[1.0], [2.0]]) is None
    assert pooled_run_variance([[3.0, 3.0], [2.0, 2.0]]) is None


def test_the_meters_own_uncertainty_counts_where_the_variance_is_assumed() -> None:
    one, other = [1.0], [1.05]
    alone = compare_runs(one, other, variance=assumed(0.01))
    with_meter = compare_runs(one, other, variance=assumed(0.01), counter_rel=0.02)
    assert alone.resolved and not with_meter.resolved
    repeats = RunVariance(sd_log=0.01, df=10, source="repeats")
    assert compare_runs(one, other, variance=repeats, counter_rel=0.02) == compare_runs(
        one, other, variance=repeats
    )


@pytest.mark.parametrize("df", [3.0, 20.0, math.inf])
@pytest.mark.parametrize("runs", [1, 3])
def test_the_smallest_difference_is_resolved_in_four_of_five_cases(df: float, runs: int) -> None:
    rng, n, sd = np.random.default_rng(2), 20_000, 0.03
    variance = RunVariance(sd_log=sd, df=df, source=ASSUMED)
    shift = math.log(smallest_ratio(runs, runs, variance=variance))
    estimated = sd if math.isinf(df) else sd * np.sqrt(rng.chisquare(df, n) / df)
    error = np.sqrt(2 / runs)
    difference = rng.normal(shift, sd * error, n)
    resolved = np.abs(difference) > stats.t.ppf(0.975, df) * estimated * error
    assert resolved.mean() == pytest.approx(0.8, abs=0.015)


def test_more_repeats_resolve_smaller_differences() -> None:
    ratios = [smallest_ratio(runs, runs, variance=assumed(0.02)) for runs in (1, 2, 4)]
    assert ratios[0] > ratios[1] > ratios[2] > 1


def test_an_engine_that_nothing_was_measured_for_takes_the_largest_of_its_source() -> None:
    same_source = [float(row["sd_log"]) for row in reference() if row["energy_source"] == "nvml"]
    assert reference_variance("server", "nvml").sd_log == max(same_source)
    everything = [float(row["sd_log"]) for row in reference()]
    assert reference_variance("graph", "replay").sd_log == max(everything)
    assert reference_variance("graph", "nvml").source == ASSUMED


def reference() -> list[dict[str, str]]:
    text = files("codejoule.statistics").joinpath("between_runs.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def test_the_shipped_reference_is_what_the_golden_files_say() -> None:
    vllm = pd.read_csv(GOLDEN / "h200_vllm.csv").dropna()
    log = np.log(vllm["j_per_token"] / vllm["direct_j_per_token"])
    found = {("vllm", "nvml"): (math.sqrt((log**2).mean() / 2), len(log))}
    repeats = pd.concat(pd.read_csv(GOLDEN / f"{name}_repeats.csv") for name in ("cpu", "h200"))
    for (engine, source), runs in repeats.groupby(["engine", "energy_source"]):
        variance = pooled_run_variance([runs["energy_generation_j"]])
        assert variance is not None
        found[str(engine), str(source)] = (variance.sd_log, int(variance.df))
    shipped = {(row["engine"], row["energy_source"]): row for row in reference()}
    assert shipped.keys() == found.keys()
    for key, (sd_log, df) in found.items():
        assert float(shipped[key]["sd_log"]) == pytest.approx(sd_log, abs=6e-5)
        assert int(shipped[key]["df"]) == df


def test_the_reference_moderates_a_variance_of_few_repeats() -> None:
    few = RunVariance(sd_log=0.05, df=2.0, source=REPEATS)
    found = moderated_variance(few, RunVariance(sd_log=0.01, df=4.0, source=ASSUMED))
    assert found.df == 6
    assert found.sd_log == pytest.approx(math.sqrt((2 * 0.05**2 + 4 * 0.01**2) / 6))
    assert variance_words(found) == (
        "runs differ by 3 %, from repeats and the reference with 6 degrees of freedom"
    )
