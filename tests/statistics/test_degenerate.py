"""Every statistic on data that hold too little: defined, absent or refused, and never certain."""

import dataclasses
import inspect
import math
import traceback
import warnings

import numpy as np
import pytest

import codejoule.statistics as s
from codejoule.domain import accuracy

DATA = {
    "no task": [],
    "one task": [0.5],
    "two tasks": [0.5, 0.25],
    "all pass": [1.0] * 12,
    "all fail": [0.0] * 12,
    "all equal": [0.5] * 12,
    "equal but for rounding": [0.1 + 0.2, 0.3] * 6,
    "one differs": [0.5] * 11 + [1.0],
    "one unknown": [0.5] * 6 + [math.nan] + [0.25] * 5,
    "all unknown": [math.nan] * 12,
}
"""Figures of tasks: rates, or energies."""


def resampler() -> s.Resampler:
    return s.Resampler(rng=np.random.default_rng(0), resamples=200)


def windows(x, count):
    return [np.arange(x.size) % count if count else np.arange(x.size)]


def logs(x, runs):
    with np.errstate(divide="ignore"):
        return np.log(np.tile(np.where(x > 0, x, math.nan), (runs, 1)))


def samples(x):
    return [[True] * round(4 * v) + [False] * (4 - round(4 * v)) for v in np.nan_to_num(x)]


def ratio(runs, count):
    return lambda x: s.paired_log_ratio(
        logs(x, runs), logs(2 * x, runs), s.clusters(windows(x, count)), resampler=resampler()
    )


KNOWN = s.RunVariance(sd_log=0.02, df=math.inf, source=s.ASSUMED)
FEW = s.RunVariance(sd_log=0.02, df=2.0, source=s.REPEATS)


def pair(x):
    one = np.zeros((1, x.size))
    return s.PairTasks(
        energy_j=(one, one), labels=np.arange(x.size), order=one[0], passed=(one, one),
        run_energy_j=(x, 2 * x), variance=KNOWN,
    )  # fmt: skip


def against(other):
    return lambda x: s.paired_accuracy(x, other(x))


def regression(function):
    member = lambda x: np.arange(x.size) % 2 == 0  # noqa: E731
    return lambda x: function(
        np.tile(x, 4), np.tile(np.arange(x.size) + 1.0, 4), {"General": np.tile(member(x), 4)}
    )


def front(x):
    labels = s.clusters(windows(x, 0))
    drawn = s.resample([x[None], 2 * x[None]], np.stack([x, x]), labels, resampler=resampler())
    return s.front_probability(drawn)


CALLS = {
    "at_least": [lambda x: s.at_least(x, 0.4)],
    "lower_bound": [s.lower_bound],
    "paired_accuracy": [against(lambda x: x), against(np.zeros_like), against(lambda x: 1 - x)],
    "tango_interval": [lambda x: s.tango_interval(0, 0, x.size)],
    "tango_score": [lambda x: s.tango_score(x.size, 0, x.size, -0.02)],
    "unseen": [lambda x: s.unseen(x.size, 0.5, 0.4)],
    "paired_log_ratio": [ratio(1, 0), ratio(1, 1), ratio(1, 2), ratio(3, 0), ratio(3, 1)],
    "durbin_watson": [s.durbin_watson],
    "shapiro_wilk": [s.shapiro_wilk],
    "levene": [lambda x: s.levene([]), lambda x: s.levene([x]), lambda x: s.levene([x, 2 * x])],
    "clusters": [lambda x: s.clusters(windows(x, 0)), lambda x: s.clusters([])],
    "cluster_means": [lambda x: s.cluster_means(x, np.zeros(x.size, dtype=int))],
    "cluster_sums": [lambda x: s.cluster_sums(x, np.zeros(x.size, dtype=int))],
    "resample": [front],
    "front_probability": [front],
    "holm": [s.holm],
    "friedman": [lambda x: s.friedman(np.stack([x, x, x], axis=1)),
                 lambda x: s.friedman(np.stack([x, 2 * x, 3 * x], axis=1))],
    "wilcoxon": [lambda x: s.wilcoxon(x, x), lambda x: s.wilcoxon(x, 2 * x)],
    "mixed_model": [
        lambda x: s.mixed_model(np.stack([logs(x, 1), logs(x, 1)])),
        lambda x: s.mixed_model(np.stack([logs(x, 3), logs(2 * x, 3)])),
    ],
    "kruskal_wallis": [lambda x: s.kruskal_wallis([]), lambda x: s.kruskal_wallis([x, x]),
                       lambda x: s.kruskal_wallis([x, 2 * x])],
    "dunn": [lambda x: s.dunn([]), lambda x: s.dunn([x]), lambda x: s.dunn([x, 2 * x])],
    "cliffs_delta": [lambda x: s.cliffs_delta(x, 2 * x)],
    "hac_lags": [lambda x: s.hac_lags(x.size)],
    "hac_regression": [regression(s.hac_regression)],
    "thesis_regression": [regression(s.thesis_regression)],
    "has_spread": [s.has_spread],
    "pooled_run_variance": [lambda x: s.pooled_run_variance([x, 2 * x])],
    "compare_runs": [lambda x: s.compare_runs(x, 2 * x, variance=KNOWN)],
    "run_ratio": [lambda x: s.run_ratio(pair(x))],
    "moderated_variance": [lambda x: s.moderated_variance(FEW, FEW)],
    "find_crossing": [
        lambda x: s.find_crossing(range(1, x.size + 1), x, x, x),
        lambda x: s.find_crossing(range(1, x.size + 1), x, x / 2, 2 * x),
    ],
    "smallest_ratio": [lambda x: s.smallest_ratio(x.size + 1, x.size + 1, variance=KNOWN)],
    "reference_variance": [lambda x: s.reference_variance("none", "none")],
    "pareto_front": [lambda x: s.pareto_front(x, x)],
    "pass_at_k": [lambda x: accuracy.pass_at_k(x.size, 0, 1)],
    "wilson_interval": [lambda x: accuracy.wilson_interval(float(np.nansum(x)), x.size)],
    "pass_at_1_interval": [
        lambda x: accuracy.pass_at_1_interval(samples(x), rng=np.random.default_rng(0)),
        lambda x: accuracy.pass_at_1_interval([[]] * x.size, rng=np.random.default_rng(0)),
    ],
    "bootstrap_interval": [
        lambda x: accuracy.bootstrap_interval(list(x), rng=np.random.default_rng(0))
    ],
}  # fmt: skip


def public_functions():
    found = {name: getattr(s, name) for name in s.__all__}
    found |= {
        name: f for name, f in vars(accuracy).items()
        if inspect.isfunction(f) and f.__module__ == accuracy.__name__ and name[0] != "_"
    }  # fmt: skip
    return {
        name: f for name, f in found.items()
        if inspect.isfunction(f) and not name.endswith("_words")
    }  # fmt: skip


def test_every_public_statistic_is_tried():
    assert set(CALLS) == set(public_functions())


@pytest.mark.parametrize("data", list(DATA))
@pytest.mark.parametrize("name", list(CALLS))
def test_too_little_data_are_defined_or_absent_or_refused_and_never_certain(name, data):
    for call in CALLS[name]:
        found, refusal = outcome(call, np.array(DATA[data]))
        assert refusal is None or "ValueError" in public_functions()[refusal].__doc__
        check(found, interval=name.endswith("_interval"))


def outcome(call, values):
    """What a call returns, or the name of the public function that refuses the data."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return call(values), None
        except ValueError as error:
            return None, traceback.extract_tb(error.__traceback__)[-1].name


def check(found, *, interval=False):
    """No p-value or interval claims what no data can show."""
    if found is None:
        return
    if interval:
        claims_no_certainty(*found)
    elif dataclasses.is_dataclass(found):
        fields = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
        if "ci_low" in fields:
            claims_no_certainty(fields["ci_low"], fields["ci_high"])
        for key, value in fields.items():
            if isinstance(value, float) and key.startswith("p_value"):
                is_probability(value)
            if isinstance(value, float) and key.endswith("error"):
                assert math.isnan(value) or value > 1e-9
            if isinstance(value, tuple):
                for part in value:
                    check(part)
        if isinstance(found, s.MixedModel):
            is_probability(found.p_value(0, 1))
            assert math.isnan(found.icc) or 0 <= found.icc <= 1


def is_probability(p):
    assert math.isnan(p) or 0 < p <= 1


def claims_no_certainty(low, high):
    assert (math.isnan(low) and math.isnan(high)) or low < high - 1e-6, (low, high)


@pytest.mark.parametrize("tasks", [1, 3, 12, 63, 200])
@pytest.mark.parametrize("rate", [0.1, 0.5, 1 / 3, 0.9])
def test_one_rate_of_all_tasks_is_believed_no_more_than_as_many_verdicts(rate, tasks):
    rates = np.full(tasks, rate)
    bound = s.lower_bound(rates)
    assert 0 <= bound < rate
    assert s.at_least(rates, bound) == pytest.approx(0.05, rel=1e-6)
    assert s.at_least(rates, 0.98 * rate) > 0.05
    low, high = accuracy.wilson_interval(rate * tasks, tasks)
    assert low < rate < high


@pytest.mark.parametrize("tasks", [3, 20, 60])
def test_one_task_that_differs_does_not_make_the_others_certain(tasks):
    rates = np.r_[np.full(tasks - 1, 0.5), 0.6]
    assert s.lower_bound(rates) <= rates.mean() * 0.05 ** (1 / tasks)
    assert s.at_least(rates, 0.99 * rates.mean()) > 0.05
    found = s.paired_accuracy(rates, np.full(tasks, 0.5))
    assert found.p_value_no_loss > 0.05
    assert found.ci_low < -0.02


@pytest.mark.parametrize("samples_per_task", [2, 5])
@pytest.mark.parametrize("tasks", [3, 20, 60])
def test_lower_bound_of_rates_misses_the_truth_as_seldom_as_it_says(tasks, samples_per_task):
    rng = np.random.default_rng(tasks)
    trials = 600
    for solvable in (rng.beta(0.6, 0.6, (trials, tasks)), np.full((trials, tasks), 0.5)):
        drawn = rng.binomial(samples_per_task, solvable) / samples_per_task
        missed = sum(s.lower_bound(rates) > 0.5 for rates in drawn)
        # More than 49 of 600 has a probability of 0.0005 at 5 %; Student's t is near it for 20.
        assert missed <= 49


@pytest.mark.parametrize("members", [0, 1, 39, 40])
def test_a_domain_of_one_task_explains_nothing(members):
    rng = np.random.default_rng(0)
    energy_j, tokens = rng.random(40) + 1, rng.integers(1, 90, 40).astype(float)
    domains = {"Rare": np.arange(40) < members}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fit in (s.thesis_regression, s.hac_regression):
            found = fit(energy_j, tokens, domains)
            assert "Rare" in found.dropped
            assert all(t.standard_error > 0 for t in found.terms)


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("factor", [1.0, 2.0, 1 / 3])
def test_one_ratio_on_all_tasks_has_no_error_to_judge_it_by(runs, factor):
    energy_j = np.random.default_rng(1).lognormal(4, 1, 30)
    own, other = (np.log(np.tile(e, (runs, 1))) for e in (energy_j * factor, energy_j))
    found = s.paired_log_ratio(own, other, np.arange(30), resampler=resampler())
    assert found.ratio == pytest.approx(factor)
    assert math.isnan(found.p_value)
    assert math.isnan(found.ci_low)


def test_runs_that_agree_to_the_last_digit_say_nothing_of_variance_between_runs():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 30))
    once = s.paired_log_ratio(a[None], b[None], np.arange(30), resampler=resampler())
    again = s.paired_log_ratio(
        np.tile(a, (3, 1)), np.tile(b, (3, 1)), np.arange(30), resampler=resampler()
    )
    assert not again.between_runs
    assert again.p_value == pytest.approx(once.p_value)
