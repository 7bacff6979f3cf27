"""Tables of runs that can be compared, and the refusal of those that cannot."""

import math

import numpy as np
import pytest

from codejoule.analysis import analyse, comparable_groups, comparison_table, load_runs
from codejoule.domain import EnergyScope, EnergySource
from codejoule.report import render_table
from codejoule.report.measured import provenance

GPU = {"codejoule.gpu": "NVIDIA H200"}


def frame(recorder):
    return load_runs(recorder.store.uri, recorder.store.experiment).frame


def test_rows_are_configurations_the_unquantized_first(sweep):
    table = comparison_table(frame(sweep))
    assert list(zip(table["quant"], table["batch"], strict=True)) == [
        ("none", 1), ("none", 8), ("gptq4", 1), ("gptq4", 8), ("gptq8", 1), ("gptq8", 8),
    ]  # fmt: skip
    first = table.iloc[0]
    assert first["energy_generation_j"] == 100.0
    assert first["energy_total_j"] == pytest.approx(120.0)
    assert first["energy_per_output_token_j"] == 0.5
    assert first["energy_per_solved_task_j"] == pytest.approx(8.0)
    assert first["pass_at_1"] == 0.75
    assert 0.5 < first["pass_at_1_ci_low"] < 0.75 < first["pass_at_1_ci_high"] < 1.0
    assert (first["energy_source"], first["energy_source_evaluation"]) == ("estimate", "estimate")
    assert math.isnan(first["energy_generation_sd_j"])
    # gptq4 b8 uses least, gptq8 b8 solves one more for more; the rest is beaten.
    assert list(table["quant"][table["pareto"]]) == ["gptq4", "gptq8"]
    assert set(table["batch"][table["pareto"]]) == {8}


def test_repeats_are_averaged_and_counted(recorder):
    for repeat, energy_j in enumerate((90.0, 100.0, 110.0), start=1):
        recorder.run(energy_j=energy_j, repeat=repeat)
    table = comparison_table(frame(recorder))
    assert len(table) == 1
    row = table.iloc[0]
    assert (row["runs"], row["energy_generation_j"]) == (3, 100.0)
    assert row["energy_generation_sd_j"] == pytest.approx(10.0)
    assert row["pass_at_1_ci_low"] == pytest.approx(0.5313, abs=1e-4)


def test_settings_that_differ_are_never_averaged_but_shown(recorder):
    recorder.run(generation__max_new_tokens=64)
    recorder.run(generation__max_new_tokens=128, energy_j=200.0)
    table = comparison_table(frame(recorder))
    assert table["generation.max_new_tokens"].tolist() == ["64", "128"]
    assert table["runs"].tolist() == [1, 1]
    assert " max_new_tokens " in render_table(table)


def test_paths_and_stores_do_not_make_another_configuration(recorder):
    recorder.run(tracking__dir="/a", repeat=1)
    recorder.run(tracking__dir="/b", repeat=2)
    assert comparison_table(frame(recorder))["runs"].tolist() == [2]


def test_estimates_and_measurements_are_separate_groups(recorder):
    recorder.run()
    recorder.run(source=EnergySource.nvml, scope=EnergyScope.gpu, tags=GPU)
    recorder.run(source=EnergySource.nvml, scope=EnergyScope.gpu, tags=GPU, quant__name="awq")
    runs = frame(recorder)
    groups = comparable_groups(runs)
    assert [len(g.frame) for g in groups] == [1, 2]
    assert [g.estimate for g in groups] == [True, False]
    assert "energy: nvml (gpu), on NVIDIA H200" in groups[1].title
    with pytest.raises(ValueError, match=r"energy source \(estimate, nvml\)"):
        comparison_table(runs)


def test_gpu_runs_of_two_hosts_compare_and_cpu_runs_do_not(recorder):
    on_gpu = {"source": EnergySource.nvml, "scope": EnergyScope.gpu}
    recorder.run(tags=GPU | {"codejoule.host": "a"}, **on_gpu)
    recorder.run(tags=GPU | {"codejoule.host": "b"}, repeat=2, **on_gpu)
    assert len(comparable_groups(frame(recorder))) == 1
    recorder.run(tags={"codejoule.host": "a"})
    recorder.run(tags={"codejoule.host": "b"}, repeat=2)
    assert len(comparable_groups(frame(recorder))) == 3


def test_random_weights_are_a_group_of_their_own_with_a_warning(recorder):
    recorder.run()
    recorder.run(model__weights="random")
    titles = [g.title for g in comparable_groups(frame(recorder))]
    assert len(titles) == 2
    assert "random weights: pass@1 means nothing" in titles[1]


def test_other_tasks_of_the_same_suite_are_another_group(recorder):
    recorder.run()
    recorder.run(suite__split="instruct")
    assert len(comparable_groups(frame(recorder))) == 2


def test_unjudged_runs_have_energy_and_no_accuracy(recorder):
    recorder.run(judged=False)
    table = comparison_table(frame(recorder))
    row = table.iloc[0]
    assert row["energy_generation_j"] == 100.0
    assert np.isnan(row["pass_at_1"])
    assert not row["pareto"]
    text = render_table(table)
    assert "evaluation was not metered" in " ".join(text.split())
    assert "~100 " in text


def test_no_runs_no_table(recorder):
    runs = frame(recorder)
    assert comparable_groups(runs) == []
    with pytest.raises(ValueError, match="no runs to compare"):
        comparison_table(runs)


def test_table_fits_a_terminal_and_marks_estimates(sweep):
    text = render_table(comparison_table(frame(sweep)))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 120
    assert " ".join(lines[0].split()) == (
        "model quant batch pass@1 [95 % CI] energy J total J J/token J/solved tokens/s front"
    )
    assert " ".join(lines[2].split()) == (
        "starter none 1 0.750 [0.53, 0.89] ~100 ~120 ~0.500 ~8.00 100"
    )
    assert "~ marks an estimate" in text
    assert "how much energy varies between runs is not known" in text


def test_measured_figures_carry_no_mark_and_the_judging_does(recorder):
    recorder.run(source=EnergySource.nvml, scope=EnergyScope.gpu, tags=GPU)
    row = render_table(comparison_table(frame(recorder))).splitlines()[2]
    assert row.split()[-6:] == ["100", "~120", "0.500", "~8.00", "100", "*"]


def test_large_energies_are_shown_in_kilowatt_hours(recorder):
    recorder.run(energy_j=1.8e6)
    lines = render_table(comparison_table(frame(recorder))).splitlines()
    assert "energy kWh" in lines[0]
    assert "~0.500 ~9,000 ~120,001" in " ".join(lines[2].split())


def test_long_names_are_shortened_at_the_front(recorder):
    recorder.run(model__name="an_organisation_with_a_long_name_" * 3 + "7b_instruct")
    recorder.run(model__name="an_organisation_with_a_long_name_" * 3 + "0_5b_instruct")
    lines = render_table(comparison_table(frame(recorder))).splitlines()
    assert max(map(len, lines)) <= 120
    assert "_7b_instruct" in lines[2]


def test_a_rate_by_further_tests_has_its_own_column_where_there_is_one(recorder):
    recorder.run()
    runs = frame(recorder)
    assert "plus [" not in render_table(comparison_table(runs))
    runs["metrics.pass_at_1_plus"] = 0.65
    table = comparison_table(runs)
    assert table["pass_at_1_plus"].tolist() == [0.65]
    drawn = render_table(table)
    assert "pass@1 [95 % CI]" in drawn
    assert "plus [95 % CI]" in drawn
    assert "0.650" in drawn


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ("cpu:0, dram:0", "cpu (CPU package 0 and its memory)"),
        ("cpu:0, dram:0, cpu:1, dram:1", "cpu (CPU packages 0, 1 and their memory)"),
        ("cpu:0, cpu:1, dram:1", "cpu (CPU packages 0, 1 and the memory of 1)"),
        ("cpu:0", "cpu (CPU package 0 without memory, which has no counter here)"),
        (None, "cpu"),
    ],
)
def test_what_a_cpus_counters_cover_is_said(recorder, devices, words):
    tags = {} if devices is None else {"codejoule.energy_devices": devices}
    recorder.run(source=EnergySource.rapl, tags=tags)
    loaded = load_runs(recorder.store.uri, recorder.store.experiment)
    legend = " ".join(render_table(comparison_table(loaded.frame)).split())
    assert f"generation alone, by rapl, scope {words}. total:" in legend
    (group,) = analyse(loaded).groups
    assert ("Scope", words) in provenance(group)


ON_GPU = {"source": EnergySource.nvml, "scope": EnergyScope.gpu}


@pytest.mark.parametrize(
    ("facts", "groups"),
    [
        ({}, [["1", "3"], ["2"], ["4"]]),
        ({"source": EnergySource.rapl}, [["1", "3"], ["2"], ["4"]]),
        (ON_GPU | {"scope": EnergyScope.gpu_cpu}, [["1", "3"], ["2"], ["4"]]),
        # The GPU is nobody else's: how many worked beside it matters less than whether.
        (ON_GPU, [["1", "3"], ["2", "4"]]),
    ],
)
def test_runs_beside_other_jobs_are_compared_with_none_that_was_alone(recorder, facts, groups):
    for repeat, beside in enumerate((None, 1, None, 3), start=1):
        tags = {} if beside is None else {"codejoule.concurrent": str(beside)}
        recorder.run(repeat=repeat, tags=tags, **facts)
    runs = frame(recorder)
    assert [list(g.frame["params.repeat"]) for g in comparable_groups(runs)] == groups
    (mixed,) = comparable_groups(runs, mix=["concurrent jobs"])
    assert "mixed on purpose: concurrent jobs" in mixed.title
    table = comparison_table(runs, mix=["concurrent jobs"])
    assert table["runs"].tolist() == [2, 1, 1], "in rows of their own"
    with pytest.raises(ValueError, match="differ in concurrent jobs"):
        comparison_table(runs)
