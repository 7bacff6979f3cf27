"""What the statistics say where there is nothing to say, and their simple truths."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

import codejoule.statistics as s


def generator():
    return np.random.default_rng(7)


def test_undefined_is_nan_and_never_a_verdict():
    flat = np.ones(10)
    assert math.isnan(s.durbin_watson(flat))
    assert math.isnan(s.shapiro_wilk(flat).p_value)
    assert math.isnan(s.shapiro_wilk(np.array([1.0, 2.0])).p_value)
    assert math.isnan(s.levene([flat, flat]).p_value)
    assert math.isnan(s.levene([flat]).p_value)
    assert math.isnan(s.kruskal_wallis([flat, flat]).p_value)
    assert math.isnan(s.friedman(np.ones((10, 3))).p_value)
    assert math.isnan(s.wilcoxon(flat, flat).p_value)
    assert s.dunn([flat, flat]).tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_friedman_of_two_leaves_it_to_wilcoxon():
    found = s.friedman(generator().normal(size=(20, 2)))
    assert math.isnan(found.p_value)
    assert math.isnan(found.effect)


def test_tasks_of_one_window_alone_have_no_interval():
    logs = generator().normal(size=(2, 1, 20))
    found = s.paired_log_ratio(
        *logs, s.clusters([np.zeros(20, int)]), resampler=s.Resampler(rng=generator())
    )
    assert found.clusters == 1
    assert found.ratio == pytest.approx(math.exp(logs[0].mean() - logs[1].mean()))
    assert math.isnan(found.p_value)
    assert math.isnan(found.ci_low)
    assert math.isnan(found.ci_high)


def test_equal_energies_have_no_error_and_no_verdict():
    logs = generator().normal(size=(1, 20))
    found = s.paired_log_ratio(
        logs, logs, s.clusters([np.arange(20)]), resampler=s.Resampler(rng=generator())
    )
    assert found.ratio == 1.0
    assert math.isnan(found.p_value)


def test_a_shifted_run_does_not_fool_repeats():
    # Each run is off by up to 5 %, as a whole; between the configurations there is nothing.
    rng = generator()
    task, tasks = rng.normal(size=200), s.clusters([np.arange(200)])
    a, b = (
        task + np.array(shifts)[:, None] + rng.normal(scale=0.05, size=(3, 200))
        for shifts in ((0.05, -0.04, 0.03), (-0.03, 0.02, -0.05))
    )
    one = s.paired_log_ratio(a[:1], b[:1], tasks, resampler=s.Resampler(rng=rng))
    assert one.p_value < 0.001
    assert not one.between_runs
    three = s.paired_log_ratio(a, b, tasks, resampler=s.Resampler(rng=rng))
    assert three.p_value > 0.3
    assert three.between_runs


def test_run_without_repeats_takes_the_variance_of_the_other():
    rng = generator()
    a, b = rng.normal(size=(4, 50)), rng.normal(size=(1, 50))
    found = s.paired_log_ratio(a, b, s.clusters([np.arange(50)]), resampler=s.Resampler(rng=rng))
    assert found.df == 3
    assert found.standard_error >= a.mean(axis=1).std(ddof=1) * math.sqrt(1 + 1 / 4)


def test_clusters_join_what_any_run_decoded_together():
    fours, sixes = np.arange(12) // 4, np.arange(12) // 6
    assert s.clusters([np.arange(12)]).tolist() == list(range(12))
    assert s.clusters([fours]).tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert set(s.clusters([fours, sixes])) == {0}
    assert s.clusters([fours, np.arange(12) // 8]).tolist() == [0] * 8 + [1] * 4
    assert s.cluster_means(np.arange(12.0), s.clusters([fours])).tolist() == [1.5, 5.5, 9.5]
    shuffled = np.array([1, 0, 1, 0])
    assert s.cluster_sums(np.array([1.0, 2, 3, 4]), s.clusters([shuffled])).sum() == 10


@pytest.mark.parametrize(
    "p_values", [[0.01], [0.04, 0.01, 0.03], [0.5, 0.5, 0.001, 1.0], [0.0, 0.2]]
)
def test_holm_is_that_of_statsmodels_and_nan_does_not_count(p_values):
    expected = multipletests(p_values, method="holm")[1]
    assert s.holm(p_values) == pytest.approx(expected)
    with_nan = s.holm([math.nan, *p_values])
    assert math.isnan(with_nan[0])
    assert with_nan[1:] == pytest.approx(expected)


def test_cliffs_delta_counts_pairs():
    assert s.cliffs_delta(np.array([1.0, 2, 3]), np.array([4.0, 5])) == -1
    assert s.cliffs_delta(np.array([1.0, 3]), np.array([1.0, 3])) == 0
    assert s.cliffs_delta(np.array([2.0, 3]), np.array([1.0, 2])) == 0.75


def test_mixed_model_without_variance_between_tasks_is_on_its_boundary():
    logs = generator().normal(size=(3, 2, 40))
    logs -= logs.mean(axis=(0, 1))
    found = s.mixed_model(logs)
    assert found.sd_block == 0
    assert 0 <= found.icc < 0.01
    with pytest.raises(ValueError, match="needs 2 configurations and 2 blocks, not 1 and 40"):
        s.mixed_model(logs[:1])


def test_regression_drops_what_repeats_and_refuses_too_few_tasks():
    rng = generator()
    energy, tokens = rng.random(40) + 1, rng.integers(1, 9, 40).astype(float)
    member = rng.random(40) < 0.5
    fit = s.hac_regression(
        energy, tokens, {"General": np.ones(40, bool), "Time": member, "Other": ~member}
    )
    assert [t.name for t in fit.terms] == ["intercept", "output_tokens", "Time"]
    assert fit.dropped == ("General", "Other")
    assert s.hac_regression(energy[:8], tokens[:8], {}) is None
    assert s.thesis_regression(energy[:1], tokens[:1], {}) is None


def test_margin_and_tasks_are_needed():
    with pytest.raises(ValueError, match="margin of 0: it must be above 0"):
        s.paired_accuracy(np.ones(3), np.ones(3), margin=0)
    with pytest.raises(ValueError, match="no tasks to compare"):
        s.paired_accuracy(np.ones(0), np.ones(0))


def test_no_loss_is_shown_by_many_tasks_only():
    same = s.paired_accuracy(np.ones(60), np.ones(60), margin=0.02)
    assert same.p_value == 1.0
    assert same.p_value_no_loss > 0.05
    many = s.paired_accuracy(np.ones(1140), np.ones(1140), margin=0.02)
    assert many.p_value_no_loss < 0.001
    worse = s.paired_accuracy(np.r_[np.zeros(60), np.ones(1080)], np.ones(1140), margin=0.02)
    assert worse.p_value < 0.001
    assert worse.p_value_no_loss > 0.99


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
@settings(max_examples=50, deadline=None)
def test_tango_interval_holds_the_estimate_and_mirrors(gained, lost, same):
    n = gained + lost + same
    if n == 0:
        return
    low, high = s.tango_interval(gained, lost, n)
    assert -1 <= low <= (gained - lost) / n <= high <= 1
    assert s.tango_interval(lost, gained, n) == pytest.approx((-high, -low), abs=1e-9)


def test_lower_bound_inverts_the_test():
    rates = np.r_[np.ones(30), np.zeros(20)]
    bound = s.lower_bound(rates)
    assert s.at_least(rates, bound) == pytest.approx(0.05, rel=1e-6)
    assert s.lower_bound(np.zeros(5)) == 0.0


def test_front_probability_is_the_front_of_each_resample():
    rng = generator()
    drawn = s.Resampled(
        energy_j=rng.integers(1, 5, size=(200, 6)).astype(float),
        pass_at_1=rng.integers(0, 4, size=(200, 6)) / 4,
    )
    expected = np.mean(
        [s.pareto_front(e, a) for e, a in zip(drawn.energy_j, drawn.pass_at_1, strict=True)],
        axis=0,
    )
    assert s.front_probability(drawn) == pytest.approx(expected)


def test_resamples_draw_each_cluster_once_on_average_and_the_seed_decides():
    counts = s.Resampler(rng=generator(), resamples=500).counts(30)
    assert (counts.sum(axis=1) == 30).all()
    assert counts.mean() == 1.0
    assert (counts == s.Resampler(rng=generator(), resamples=500).counts(30)).all()
