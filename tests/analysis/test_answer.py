"""What is answered: the cheaper of equals, nothing that was not shown, and doubts by name."""

import math
import re
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.simulations import Truth, draw, with_figures
from codejoule.analysis import (
    Goal,
    Options,
    analyse_group,
    answer,
    comparable_groups,
    load_runs,
    make_tables,
)
from codejoule.analysis.comparison import COMPARABLE
from codejoule.analysis.findings import findings
from codejoule.analysis.tasks import _figures
from codejoule.config.schema import TrackingConfig
from codejoule.statistics import Method, Resampler, RunVariance
from codejoule.thesis.importing import published_metrics, published_run
from codejoule.thesis.results import published_configurations
from codejoule.tracking import prepare_store
from tests.analysis.conftest import Recorder


def resampler():
    return Resampler(rng=np.random.default_rng(0), resamples=200)


def evidence(energy_j, passed, *, runs=1, batch=1):
    """Three configurations with these figures of tasks, shape (3 * runs, tasks)."""
    truth = Truth(tasks=energy_j.shape[1], runs=runs, batch=batch)
    own = draw(truth, np.random.default_rng(0))
    figures = replace(
        own.figures, energy_j=energy_j, evaluation_j=0.1 * energy_j, passed=passed,
        order=np.tile(np.arange(truth.tasks, dtype=float), (len(energy_j), 1)),
    )  # fmt: skip
    return with_figures(own, truth, figures)


RATES = {"all pass": 1.0, "all fail": 0.0, "all at one half": 0.5, "not judged": math.nan}


@pytest.mark.parametrize("rate", list(RATES))
@pytest.mark.parametrize(
    ("tasks", "runs", "batch"), [(1, 1, 1), (12, 1, 1), (12, 1, 12), (12, 3, 1), (1, 3, 1)]
)
@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_too_little_data_give_tables_without_certainty_and_without_warnings(
    rate, tasks, runs, batch, factor
):
    energy_j = np.full((3 * runs, tasks), 7.0)
    energy_j[:runs] *= factor
    own = evidence(energy_j, np.full((3 * runs, tasks), RATES[rate]), runs=runs, batch=batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tables = make_tables(own, Method(margin=0.02, resampler=resampler()))
        said = list(findings(own, tables))
        for goal in (Goal(), Goal(min_pass_at_1=0.45), Goal(max_kwh=1.0), Goal(max_kwh=1e-9)):
            advice = answer(own, goal, resampler=resampler())
            said += [advice.sentence, *advice.ladder, *advice.doubts]
            if goal.min_pass_at_1 is not None and not (rate == "all pass" and tasks > 1):
                assert advice.configuration is None
    for table in tables.values():
        for low in (c for c in table.frame.columns if str(c).endswith("ci_low")):
            width = table.frame[str(low).replace("low", "high")] - table.frame[low]
            assert not (width.abs() < 1e-9).any(), (table.name, low)
        for p in (c for c in table.frame.columns if "p_value" in str(c)):
            assert not (table.frame[p].astype(float) <= 0).any(), (table.name, p)
    assert not [text for text in said if re.search(r"\bnan\b|\binf\b", text)]


def test_of_equal_pass_at_1_the_cheaper_is_taken():
    rng = np.random.default_rng(3)
    passed = np.tile(rng.random(60) < 0.7, (3, 1)).astype(float)
    for factors in ([1, 2, 3], [3, 1, 2], [2, 3, 1]):
        energy_j = np.array(factors)[:, None] * rng.lognormal(4, 0.1, (3, 60))
        own = evidence(energy_j, passed)
        advice = answer(own, Goal(max_kwh=1.0), resampler=resampler())
        assert advice.configuration == own.labels[factors.index(1)]


def test_equal_pass_at_1_of_repeats_is_equal_although_means_round_differently():
    # (0.1 + 0.2 + 0.3) / 3 is not 0.2.
    passed = np.zeros((9, 10))
    for row, count in enumerate((1, 2, 3, 2, 2, 2, 2, 2, 2)):
        passed[row, :count] = 1
    energy_j = np.repeat([3.0, 1.0, 2.0], 3)[:, None] * np.full((9, 10), 5.0)
    own = evidence(energy_j, passed, runs=3)
    own = replace(own, table=own.table.assign(pass_at_1=[(0.1 + 0.2 + 0.3) / 3, 0.2, 0.2]))
    assert own.table["pass_at_1"].nunique() == 2
    advice = answer(own, Goal(max_kwh=1.0), resampler=resampler())
    assert advice.configuration == own.labels[1]


def test_of_equal_energy_the_better_pass_at_1_is_taken():
    energy_j = np.full((3, 60), 5.0)
    passed = np.stack([np.arange(60) < n for n in (40, 55, 45)]).astype(float)
    own = evidence(energy_j, passed)
    advice = answer(own, Goal(min_pass_at_1=0.5), resampler=resampler())
    assert advice.configuration == own.labels[1]


@pytest.fixture(scope="module")
def thesis():
    """The thesis' published runs as `thesis import` records them, without a store."""
    rows = [
        {
            "run_id": str(i), "run_name": str(i), "sweep": None, "started_ms": i,
            **dict.fromkeys(COMPARABLE.values()),
            **{f"tags.{k}": v for k, v in published_run(row).recorded_tags.items()},
            **{f"metrics.{k}": v for k, v in published_metrics(row).items()},
            "params.model.name": row.model, "params.quant.name": row.quant,
            "params.batch.size": str(row.batch_size), "params.engine.name": None,
            "params.generation.name": "greedy", "params.suite.name": "bigcodebench",
            "params.repeat": "1",
        }
        for i, row in enumerate(published_configurations())
    ]  # fmt: skip
    return pd.DataFrame(rows)


def analysed(frame, goal):
    (group,) = comparable_groups(frame.reset_index(drop=True))
    return analyse_group(group, _figures([]), Options(goal=goal))


def test_the_thesis_deepseek_at_batch_8_is_taken_with_its_doubt(thesis):
    group = analysed(thesis, Goal(max_kwh=0.4))
    advice = group.answer
    assert advice.configuration == "deepseek_coder_16b none b8"
    (doubt,) = [d for d in advice.doubts if d.startswith("Doubtful: a change of batch or engine")]
    assert "far from 0.490 (95 % interval 0.461 to 0.519)" in doubt
    assert "deepseek_coder_16b none b4, pass@1 0.290" in doubt
    assert "deepseek_coder_16b none b1, pass@1 0.290" in doubt


@pytest.mark.parametrize(
    ("neighbour", "doubted"),
    [
        ({"params.batch.size": "4"}, True),
        ({"params.engine.name": "vllm"}, True),
        ({"params.batch.size": "4", "params.engine.name": "vllm"}, True),
        ({"params.batch.size": "4", "params.quant.name": "awq"}, False),
        ({"params.model.name": "qwen_3b"}, False),
        ({"params.batch.size": "4", "metrics.pass_at_1": 0.48}, False),
    ],
)
def test_only_a_neighbour_that_should_give_the_same_text_is_a_doubt(thesis, neighbour, doubted):
    best = thesis[(thesis["params.model.name"] == "deepseek_coder_16b")].iloc[[-1]]
    other = best.assign(run_id="other", **{"metrics.pass_at_1": 0.29, **neighbour})
    frame = pd.concat([best, other])
    advice = analysed(frame, Goal(max_kwh=0.4)).answer
    assert any(u.startswith("Doubtful") for u in advice.doubts) == doubted
    sampled = frame.assign(**{"params.generation.name": "sample"})
    advice = analysed(sampled, Goal(max_kwh=0.4)).answer
    assert not any(u.startswith("Doubtful") for u in advice.doubts)


def noisy(factors, rates, *, tasks=200, runs=1, batch=1):
    rng = np.random.default_rng(5)
    task = rng.lognormal(4, 0.5, tasks)
    energy_j = np.repeat(factors, runs)[:, None] * task * rng.lognormal(0, 0.02, (3 * runs, tasks))
    passed = np.stack([np.arange(tasks) < rate * tasks for rate in np.repeat(rates, runs)])
    return evidence(energy_j, passed.astype(float), runs=runs, batch=batch)


def test_the_sentence_says_what_to_take_against_the_unquantized_and_what_was_shown():
    own = noisy([1.0, 0.8, 0.6], [0.6, 0.6, 0.6], tasks=400)
    apparatus = own.apparatus[0]
    own = replace(own, variances={apparatus: RunVariance(sd_log=0.01, df=20.0, source="repeats")})
    found = answer(own, Goal(), resampler=resampler())
    assert found.configuration == "model gptq4 b1"
    assert found.reference == "model none b1"
    said = re.fullmatch(
        r"Take model gptq4 b1: ([\d.]+) J per correct program, (\d+) % less than unquantized "
        r"\[(\d+), (\d+)\]; pass@1 0.60, a loss of more than 0.02 is excluded\.",
        found.sentence,
    )
    assert said, found.sentence
    j, less, low, high = map(float, said.groups())
    assert j == pytest.approx(found.figures["cost_j"], rel=0.01)
    assert low < less < high
    assert found.doubts == ()
    assert found.ladder == ()


def test_an_assumed_variance_is_a_doubt_and_too_large_a_one_claims_nothing():
    own = noisy([1.0, 0.97, 1.5], [0.6, 0.6, 0.6])
    apparatus = own.apparatus[0]
    wide = replace(own, variances={apparatus: RunVariance(sd_log=0.2, df=9.0, source="assumed")})
    found = answer(wide, Goal(), resampler=resampler())
    assert "not shown to differ from unquantized (" in found.sentence
    assert (
        "How much energy varies from run to run was not measured here: 20 % is assumed "
        "(repeat=1,2,3 tells)."
    ) in found.doubts


def test_one_window_leaves_other_tasks_unknown_and_these_tasks_resolved():
    own = noisy([1.0, 0.5, 2.0], [0.6, 0.6, 0.6], tasks=64, batch=32)
    apparatus = own.apparatus[0]
    own = replace(own, variances={apparatus: RunVariance(sd_log=0.02, df=9.0, source="repeats")})
    found = answer(own, Goal(), resampler=resampler())
    assert "less than unquantized [" in found.sentence
    assert "tasks_low" not in found.figures
    assert (
        "Whether this holds on other tasks like these is not known: 64 tasks were metered in 2 "
        "groups (256 tasks would tell)."
    ) in found.doubts
    method = Method(margin=0.02, resampler=resampler())
    tables = make_tables(own, method)
    assert set(tables["run_pairs"].frame["verdict"]) == {"less", "more"}
    assert set(tables["energy_pairs"].frame["verdict"]) == {"unknown"}
    said = " ".join(findings(own, tables))
    assert "on these tasks 3 of 3 comparisons resolve a difference in energy." in said
    assert (
        "on tasks like these 0 of 3 comparisons resolve a difference in energy; 3 are not" in said
    )


def test_a_configuration_shown_to_solve_less_is_not_taken_and_better_pass_at_1_has_its_price():
    own = noisy([1.0, 0.9, 0.1], [0.9, 0.8, 0.3])
    found = answer(own, Goal(), resampler=resampler())
    # Per correct program gptq4 takes least, but its pass@1 is far below the best.
    rows = found.candidates.frame.set_index("configuration")
    assert rows["cost_j"].idxmin() == "model gptq4 b1"
    assert not rows.at["model gptq4 b1", "qualifies"]
    assert found.configuration == "model none b1"
    cheap = noisy([2.0, 0.5, 2.5], [0.84, 0.8, 0.8])
    found = answer(cheap, Goal(), resampler=resampler(), margin=0.2)
    assert found.configuration == "model awq b1"
    (step,) = found.ladder
    assert step.startswith("For +0.04 pass@1 ")
    assert " times: model none b1, " in step


def test_unjudged_runs_are_answered_per_task():
    own = noisy([1.0, 0.5, 2.0], [math.nan] * 3)
    unknown = own.table.assign(pass_at_1=math.nan, pass_at_1_per_kwh=math.nan)
    runs = own.runs.assign(**{"metrics.pass_at_1": math.nan})
    figures = replace(own.figures, passed=np.full_like(own.figures.passed, math.nan))
    found = answer(
        replace(own, table=unknown, runs=runs, figures=figures), Goal(), resampler=resampler()
    )
    assert found.configuration == "model awq b1"
    assert " J per task" in found.sentence
    assert "pass@1" not in found.sentence
    assert found.doubts[0].startswith("No correct programs are known")


def test_repeats_of_the_whole_store_give_the_variance_between_runs(recorder, session_store):
    for repeat, energy_j in ((1, 100.0), (2, 104.0), (3, 98.0)):
        recorder.run(repeat=repeat, energy_j=energy_j)
    other = Recorder(
        prepare_store(TrackingConfig(experiment="other", dir=f"{session_store[0]}/mlruns")),
        recorder.folder,
    )
    other.run(energy_j=100.0)
    other.run(energy_j=60.0, quant__name="gptq4")
    loaded = load_runs(other.store.uri, "other")
    ((engine, source, _), variance) = next(iter(loaded.variances.items()))
    assert (engine, source, variance.source) == ("generate", "estimate", "repeats")
    assert variance.df >= 2


def test_what_the_tags_of_runs_say_against_their_energy_is_a_doubt_by_name():
    own = noisy([1.0, 0.5, 2.0], [0.6, 0.6, 0.6])
    tags = ["ok", "throttled,shared_gpu", "too_short"]
    own = replace(own, runs=own.runs.assign(**{"tags.codejoule.validity": tags}))
    doubts = answer(own, Goal(), resampler=resampler()).doubts
    assert doubts[:2] == (
        "The GPU was slowed down by heat or its power supply (model awq b1).",
        "Another process used the GPU (model awq b1).",
    )
    assert not any("counter" in doubt for doubt in doubts), "it is neither taken nor compared with"
