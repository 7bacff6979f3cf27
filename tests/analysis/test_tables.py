"""Statistics as tables: declared once, worked out for every run, set or pair."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.simulations import Truth, draw
from codejoule.analysis import make_tables
from codejoule.analysis.tables import statistic_table
from codejoule.statistics import KEYS, STATISTICS, Method, Statistic, holm

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "analysis.md"


@pytest.fixture(scope="module")
def evidence():
    return draw(Truth(runs=2), np.random.default_rng(0))


def share_lower(pair, method):
    own, reference = (energy_j.mean(axis=0) for energy_j in pair.energy_j)
    lower = float((own < reference).mean())
    yield {"share": lower, "p_value": 1 - abs(2 * lower - 1)}


SHARE = Statistic(
    name="share",
    title="Tasks that took less",
    unit="pair",
    rows=share_lower,
    figures=("share", "p_value", "verdict"),
    adjusted=("p_value",),
    verdict=("share", 0.5, "seldom", "often"),
    notes=("Of all tasks; margin {margin:g}.",),
)


def test_a_statistic_is_one_declared_object(evidence):
    table = statistic_table(SHARE, evidence, Method(margin=0.1))
    assert list(table.frame.columns) == [
        "factor", "held", "configuration", "reference", "share", "p_value", "p_value_holm",
        "verdict",
    ]  # fmt: skip
    assert table.frame["p_value_holm"].tolist() == holm(table.frame["p_value"]).tolist()
    assert set(table.frame["verdict"]) <= {"seldom", "often", "not resolved"}
    assert table.notes[0] == "Of all tasks; margin 0.1."
    assert "adjusted by Holm" in table.notes[1]


def test_a_figure_that_a_statistic_declares_and_does_not_give_is_our_bug(evidence):
    misspelt = Statistic(
        name="share", title="", unit="pair", rows=share_lower, figures=("shares",)
    )  # fmt: skip
    with pytest.raises(AssertionError):
        statistic_table(misspelt, evidence, Method())


def test_every_statistic_has_rows_and_is_documented(evidence):
    tables = make_tables(evidence, Method())
    documented = DOCS.read_text(encoding="utf-8")
    for statistic in STATISTICS:
        assert len(tables[statistic.name].frame), statistic.name
        assert f"\n| `{statistic.name}` |" in documented
        assert set(KEYS[statistic.unit]) <= set(tables[statistic.name].frame.columns)
    assert list(make_tables(evidence, Method(), names=("dunn", "levene"))) == ["levene", "dunn"]
