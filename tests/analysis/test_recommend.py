"""What is recommended: the cheaper of equals, nothing for certain, and doubts by name."""

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
    comparable_groups,
    make_tables,
    recommend,
)
from codejoule.analysis.comparison import COMPARABLE
from codejoule.analysis.findings import findings
from codejoule.analysis.tasks import _figures
from codejoule.domain.accuracy import wilson_interval
from codejoule.report.page import _cards
from codejoule.statistics import Method, Resampler
from codejoule.thesis.importing import _tags, published_metrics
from codejoule.thesis.results import published_configurations


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
        for goal in (Goal(min_pass_at_1=0.45), Goal(max_kwh=1.0), Goal(max_kwh=1e-9)):
            advice = recommend(own, goal, resampler=resampler())
            said += [*advice.margin, *advice.unsure]
            if goal.min_pass_at_1 is not None and not (rate == "all pass" and tasks > 1):
                assert advice.configuration is None
    for table in tables.values():
        for low in (c for c in table.frame.columns if str(c).endswith("ci_low")):
            width = table.frame[str(low).replace("low", "high")] - table.frame[low]
            assert not (width.abs() < 1e-9).any(), (table.name, low)
        for p in (c for c in table.frame.columns if "p_value" in str(c)):
            assert not (table.frame[p].astype(float) <= 0).any(), (table.name, p)
    assert not [text for text in said if re.search(r"\bnan\b|\binf\b", text)]


def test_of_equal_pass_at_1_the_cheaper_is_recommended():
    rng = np.random.default_rng(3)
    passed = np.tile(rng.random(60) < 0.7, (3, 1)).astype(float)
    for factors in ([1, 2, 3], [3, 1, 2], [2, 3, 1]):
        energy_j = np.array(factors)[:, None] * rng.lognormal(4, 0.1, (3, 60))
        own = evidence(energy_j, passed)
        advice = recommend(own, Goal(max_kwh=1.0), resampler=resampler())
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
    advice = recommend(own, Goal(max_kwh=1.0), resampler=resampler())
    assert advice.configuration == own.labels[1]


def test_of_equal_energy_the_better_pass_at_1_is_recommended():
    energy_j = np.full((3, 60), 5.0)
    passed = np.stack([np.arange(60) < n for n in (40, 55, 45)]).astype(float)
    own = evidence(energy_j, passed)
    advice = recommend(own, Goal(min_pass_at_1=0.5), resampler=resampler())
    assert advice.configuration == own.labels[1]


@pytest.fixture(scope="module")
def thesis():
    """The thesis' published runs as `thesis import` records them, without a store."""
    rows = [
        {
            "run_id": str(i), "run_name": str(i), "sweep": None, "started_ms": i,
            **dict.fromkeys(COMPARABLE.values()),
            **{f"tags.{k}": v for k, v in _tags(row).items()},
            **{f"metrics.{k}": v for k, v in published_metrics(row).items()},
            "params.model.name": row.model, "params.quant.name": row.quant,
            "params.batch.size": str(row.batch_size), "params.engine.name": None,
            "params.generation.name": "greedy", "params.suite.name": "bigcodebench",
            "params.repeat": "1",
        }
        for i, row in enumerate(published_configurations())
    ]  # fmt: skip
    return pd.DataFrame(rows)


def analysed(frame, goal=None):
    (group,) = comparable_groups(frame.reset_index(drop=True))
    return analyse_group(group, _figures([]), Options(goal=goal))


def test_the_thesis_deepseek_at_batch_8_is_recommended_with_its_doubt(thesis):
    group = analysed(thesis, Goal(max_kwh=0.4))
    advice = group.recommendation
    assert advice.configuration == "deepseek_coder_16b none b8"
    doubt = advice.unsure[0]
    assert doubt.startswith(
        "Doubtful: a change of batch or engine alone hardly changes greedy text"
    )
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
    advice = analysed(frame, Goal(max_kwh=0.4)).recommendation
    assert any(u.startswith("Doubtful") for u in advice.unsure) == doubted
    sampled = frame.assign(**{"params.generation.name": "sample"})
    advice = analysed(sampled, Goal(max_kwh=0.4)).recommendation
    assert not any(u.startswith("Doubtful") for u in advice.unsure)


def test_tiles_name_the_cheaper_of_equal_pass_at_1_and_the_better_of_equal_energy(thesis):
    best = thesis.iloc[[0]]
    low, high = wilson_interval(50, 100)
    figures = {"pass_at_1": 0.5, "pass_at_1_ci_low": low, "pass_at_1_ci_high": high}
    rows = [
        best.assign(run_id=name, **{"params.batch.size": name, **{
            f"metrics.{k}": v for k, v in {**figures, "pass_at_1": p, "energy_total_kwh": kwh,
                                           "energy_generation_j": 3.6e6 * kwh}.items()
        }})
        for name, kwh, p in (("1", 0.3, 0.5), ("4", 0.2, 0.5), ("8", 0.1, 0.4), ("16", 0.1, 0.3))
    ]  # fmt: skip
    cards = {c.name: c.of for c in _cards(analysed(pd.concat(rows)))}
    assert cards["Best pass@1 [95 % interval]"].endswith(" b4")
    assert cards["Least energy (generation and evaluation)"].endswith(" b8")
