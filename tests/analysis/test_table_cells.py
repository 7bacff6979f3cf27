"""Tables as people read them: integers as integers, units that suit the figures."""

import pandas as pd

from codejoule.analysis import Table


def shown(**columns):
    table = Table(name="t", title="T", frame=pd.DataFrame(columns))
    return {table.label(n): [row[i] for row in table.cells()] for i, n in enumerate(columns)}


def test_counts_have_no_decimals_and_what_is_undefined_is_a_dash():
    assert shown(tasks=[63.0, float("nan"), 1140.0], runs=[1, 2, 12000]) == {
        "tasks": ["63", "-", "1,140"], "runs": ["1", "2", "12,000"],
    }  # fmt: skip


def test_small_energies_are_in_joules_in_every_column_of_the_table():
    assert shown(energy_kwh=[3.865e-06, 1e-5], energy_kwh_ci_low=[3e-6, float("nan")]) == {
        "energy [J]": ["13.91", "36.00"], "energy ci low [J]": ["10.80", "-"],
    }  # fmt: skip
    assert shown(energy_kwh=[0.5, 0.00001]) == {"energy [kWh]": ["0.5000", "0.00001000"]}


def test_names_that_only_look_like_units_stay():
    names = ["pass@1 per kWh", "kendalls w", "shapiro wilk w", "held"]
    assert (
        list(shown(pass_at_1_per_kwh=[1.5], kendalls_w=[0.5], shapiro_wilk_w=[0.5], held=["a"]))
        == names
    )


def test_units_stand_in_headings():
    assert shown(latency_min=[0.25], memory_bytes=[2.5e9], mean_power_w=[1.25], share_percent=[2.5]) == {
        "latency [s]": ["15"], "memory [GB]": ["2.500"], "mean power [W]": ["1.250"], "share [%]": ["2.500"],
    }  # fmt: skip
