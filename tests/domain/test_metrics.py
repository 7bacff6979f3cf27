"""The figures of a run, against computation by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from codejoule.domain import EnergyReading, EnergyScope, EnergySource, Pace, TaskRecord
from codejoule.domain.metrics import RunFacts, WindowFacts, run_metrics


def record(
    task_id: str,
    output_tokens: int,
    *,
    sample: int = 0,
    verdict: str | None = "pass",
    prompt_tokens: int = 10,
) -> TaskRecord:
    return TaskRecord(
        task_id=task_id,
        sample=sample,
        order=0,
        batch=0,
        batch_size=2,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        finish_reason="eos",
        energy_j=1.0,
        energy_net_j=None,
        batch_energy_j=2.0,
        latency_s=1.0,
        ttft_s=None,
        verdict=verdict,
        verdict_reason=verdict,
        evaluation_s=None,
        evaluation_cpu_s=None,
        evaluation_energy_j=None,
        domains=("General",),
    )


def reading(
    energy_j: float,
    latency_s: float,
    *,
    scope: EnergyScope = EnergyScope.gpu,
    source: EnergySource = EnergySource.nvml,
    net_j: float | None = None,
    ttft_s: float | None = None,
    prefill_j: float | None = None,
    devices: dict[str, float] | None = None,
) -> EnergyReading:
    return EnergyReading(
        name="batch",
        source=source,
        scope=scope,
        start_s=0.0,
        latency_s=latency_s,
        energy_j=energy_j,
        energy_net_j=net_j,
        energy_by_device_j=devices or {},
        marks_s={} if ttft_s is None else {"first_token": ttft_s},
        energy_at_marks_j={} if prefill_j is None else {"first_token": prefill_j},
    )


def window(energy_j: float, latency_s: float, tokens: tuple[int, ...], **facts) -> WindowFacts:
    return WindowFacts(reading=reading(energy_j, latency_s, **facts), output_tokens=tokens)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_every_metric_of_a_gpu_run_agrees_with_computation_by_hand(rng):
    records = [
        record("a", 11),
        record("b", 5),
        record("c", 21, verdict="fail"),
        record("d", 3, verdict="timeout"),
    ]
    facts = RunFacts(
        windows=(
            window(300.0, 2.0, (11, 5), net_j=200.0, ttft_s=0.5, prefill_j=50.0),
            window(500.0, 3.0, (21, 3), net_j=350.0, ttft_s=1.0, prefill_j=150.0),
        ),
        load=reading(1000.0, 4.0),
        quantize=reading(5000.0, 60.0),
        idle_power_w=50.0,
        evaluation_energy_j=100.0,
        evaluation_source=EnergySource.estimate,
        memory_peak_bytes=2**30,
    )
    assert run_metrics(records, facts, rng=rng) == pytest.approx(
        {
            "tasks": 4,
            "output_tokens": 40,
            "prompt_tokens": 40,
            "latency_s": 5,
            "throughput_tokens_per_s": 8,
            "ttft_s": 0.75,
            "tpot_s": (1.5 / 10 + 2.0 / 20) / 2,
            "energy_generation_j": 800,
            "energy_gpu_j": 800,
            "energy_gpu_net_j": 550,
            "energy_gpu_kwh": 800 / 3.6e6,
            "energy_prefill_j": 200,
            "energy_decode_j": 600,
            "energy_evaluation_j": 100,
            "energy_total_kwh": 900 / 3.6e6,
            "energy_load_j": 1000,
            "energy_quantize_j": 5000,
            "energy_per_output_token_j": 20,
            "energy_per_token_j": 10,
            "energy_per_task_j": 200,
            "energy_per_solved_task_j": 450,
            "mean_power_w": 160,
            "idle_power_w": 50,
            "memory_peak_bytes": 2**30,
            "pass_at_1": 0.5,
            # Wilson for 2 of 4 by hand: (0.5 + z^2/8) / (1 + z^2/4) -+ ...
            "pass_at_1_ci_low": 0.15003898915214947,
            "pass_at_1_ci_high": 0.8499610108478506,
            "pass_at_1_per_kwh": 0.5 / (900 / 3.6e6),
        }
    )


def test_cpu_run_has_no_gpu_metric(rng):
    facts = RunFacts(
        windows=(
            window(8.0, 2.0, (4,), scope=EnergyScope.cpu, source=EnergySource.estimate, net_j=7.0),
        )
    )
    metrics = run_metrics([record("a", 4)], facts, rng=rng)
    assert not [name for name in metrics if "gpu" in name]
    assert metrics["energy_generation_j"] == 8.0


def test_gpu_and_cpu_scope_takes_the_gpus_by_device_and_no_net(rng):
    devices = {"gpu:0": 5.0, "gpu:1": 2.0, "cpu:0": 1.0}
    facts = RunFacts(
        windows=(window(8.0, 2.0, (4,), scope=EnergyScope.gpu_cpu, devices=devices, net_j=3.0),)
    )
    metrics = run_metrics([record("a", 4)], facts, rng=rng)
    assert metrics["energy_gpu_j"] == 7.0
    assert "energy_gpu_net_j" not in metrics


def test_what_was_not_measured_is_absent(rng):
    facts = RunFacts(windows=(window(8.0, 2.0, (4,)),))
    metrics = run_metrics([record("a", 4)], facts, rng=rng)
    absent = {
        "energy_evaluation_j", "energy_total_kwh", "energy_per_solved_task_j",
        "pass_at_1_per_kwh", "energy_prefill_j", "energy_decode_j", "ttft_s", "tpot_s",
        "energy_gpu_net_j", "idle_power_w", "energy_load_j", "energy_quantize_j",
        "memory_peak_bytes",
    }  # fmt: skip
    assert not absent & set(metrics)
    assert metrics["pass_at_1"] == 1.0


def test_window_without_a_measurement_leaves_no_energy(rng):
    facts = RunFacts(
        windows=(window(math.nan, 0.01, (4,)), window(8.0, 2.0, (4,))),
        load=reading(math.nan, 0.01),
        evaluation_energy_j=1.0,
        evaluation_source=EnergySource.rapl,
    )
    metrics = run_metrics([record("a", 4), record("b", 4)], facts, rng=rng)
    assert [name for name in metrics if "energy" in name] == ["energy_evaluation_j"]
    assert "pass_at_1_per_kwh" not in metrics
    assert "mean_power_w" not in metrics
    assert metrics["pass_at_1"] == 1.0


def test_phases_need_every_window(rng):
    facts = RunFacts(
        windows=(
            window(8.0, 2.0, (4,), ttft_s=1.0, prefill_j=1.0),
            window(8.0, 2.0, (4,)),
        )
    )
    metrics = run_metrics([record("a", 4), record("b", 4)], facts, rng=rng)
    assert not {"energy_prefill_j", "energy_decode_j", "ttft_s", "tpot_s"} & set(metrics)


def test_window_of_single_tokens_has_no_time_per_output_token(rng):
    facts = RunFacts(windows=(window(8.0, 2.0, (1, 1), ttft_s=1.0),))
    metrics = run_metrics([record("a", 1), record("b", 1)], facts, rng=rng)
    assert metrics["ttft_s"] == 1.0
    assert "tpot_s" not in metrics


def test_nothing_solved_is_an_accuracy_of_zero_and_no_energy_per_solved_task(rng):
    facts = RunFacts(
        windows=(window(8.0, 2.0, (4,)),),
        evaluation_energy_j=1.0,
        evaluation_source=EnergySource.rapl,
    )
    metrics = run_metrics([record("a", 4, verdict="fail")], facts, rng=rng)
    assert metrics["pass_at_1"] == 0.0
    assert metrics["pass_at_1_ci_low"] == 0.0
    assert metrics["pass_at_1_per_kwh"] == 0.0
    assert "energy_per_solved_task_j" not in metrics


def test_one_missing_verdict_leaves_no_accuracy(rng):
    facts = RunFacts(windows=(window(8.0, 2.0, (4, 4)),))
    records = [record("a", 4), record("b", 4, verdict=None)]
    assert not [name for name in run_metrics(records, facts, rng=rng) if "pass" in name]


def test_several_samples_give_pass_at_k_and_a_bootstrap_interval(rng):
    # a: 3 of 5 pass, b: none. pass@1 = (0.6 + 0) / 2; pass@5 = (1 + 0) / 2.
    records = [record("a", 2, sample=i, verdict="pass" if i < 3 else "fail") for i in range(5)] + [
        record("b", 2, sample=i, verdict="fail") for i in range(5)
    ]
    facts = RunFacts(
        windows=(window(90.0, 2.0, (2,) * 10),),
        evaluation_energy_j=10.0,
        evaluation_source=EnergySource.rapl,
    )
    metrics = run_metrics(records, facts, rng=rng)
    assert metrics["pass_at_1"] == pytest.approx(0.3)
    assert metrics["pass_at_5"] == pytest.approx(0.5)
    assert "pass_at_10" not in metrics
    assert (metrics["pass_at_1_ci_low"], metrics["pass_at_1_ci_high"]) == (0.0, 0.6)
    assert metrics["tasks"] == 2
    assert metrics["energy_per_task_j"] == 45.0
    assert metrics["energy_per_solved_task_j"] == 100.0


def test_the_bootstrap_depends_on_the_generator_alone():
    records = [
        record(f"t{i}", 2, sample=s, verdict="pass" if (i + s) % 3 else "fail")
        for i in range(20)
        for s in range(2)
    ]
    facts = RunFacts(windows=(window(90.0, 2.0, (2,) * 40),))
    first, second = (run_metrics(records, facts, rng=np.random.default_rng(7)) for _ in range(2))
    assert first == second


def test_no_output_tokens_no_energy_per_token(rng):
    facts = RunFacts(windows=(window(8.0, 2.0, (0,)),))
    metrics = run_metrics([record("a", 0)], facts, rng=rng)
    assert "energy_per_output_token_j" not in metrics
    assert metrics["output_tokens"] == 0


def test_records_and_windows_must_be_the_same_samples(rng):
    facts = RunFacts(windows=(window(8.0, 2.0, (4,)),))
    with pytest.raises(ValueError, match=r"2 records and 1 sequences .* not the same samples"):
        run_metrics([record("a", 4), record("b", 4)], facts, rng=rng)
    with pytest.raises(ValueError, match="without records"):
        run_metrics([], facts, rng=rng)


def test_windows_of_one_run_have_one_source_and_scope(rng):
    two = RunFacts(
        windows=(
            window(1.0, 1.0, (1,)),
            window(1.0, 1.0, (1,), source=EnergySource.rapl, scope=EnergyScope.cpu),
        )
    )
    with pytest.raises(ValueError, match="differ in source or scope: nvml/gpu, rapl/cpu"):
        run_metrics([record("a", 1)] * 2, two, rng=rng)
    with pytest.raises(ValueError, match="at least one window"):
        run_metrics([record("a", 1)], RunFacts(windows=()), rng=rng)
    with pytest.raises(ValueError, match="come together"):
        RunFacts(windows=(window(1.0, 1.0, (1,)),), evaluation_energy_j=1.0)


def test_the_crosscheck_compares_both_methods_over_all_windows(rng):
    def both(energy_j: float, integrated_j: float | None) -> WindowFacts:
        first = replace(reading(energy_j, 1.0), integrated_j=integrated_j)
        return WindowFacts(reading=first, output_tokens=(5,))

    records = [record("a", 5), record("b", 5)]
    facts = RunFacts(windows=(both(100.0, 103.0), both(300.0, 305.0)))
    assert run_metrics(records, facts, rng=rng)["energy_crosscheck_rel"] == pytest.approx(0.02)
    facts = RunFacts(windows=(both(100.0, 103.0), both(300.0, None)))
    assert "energy_crosscheck_rel" not in run_metrics(records, facts, rng=rng)


def test_the_uncertainty_of_a_run_is_that_of_its_windows_where_all_state_one(rng):
    def stated(uncertainty_j: float | None) -> WindowFacts:
        own = replace(reading(100.0, 1.0), uncertainty_j=uncertainty_j)
        return WindowFacts(reading=own, output_tokens=(5,))

    records = [record("a", 5), record("b", 5)]
    facts = RunFacts(windows=(stated(3.0), stated(4.0)))
    found = run_metrics(records, facts, rng=rng)["energy_generation_uncertainty_j"]
    assert found == pytest.approx(5.0)
    facts = RunFacts(windows=(stated(3.0), stated(None)))
    assert "energy_generation_uncertainty_j" not in run_metrics(records, facts, rng=rng)


def test_zeus_own_figure_stands_beside_ours_where_every_window_has_it(rng):
    def both(energy_j: float, zeus_j: float | None) -> WindowFacts:
        first = replace(reading(energy_j, 1.0), zeus_j=zeus_j)
        return WindowFacts(reading=first, output_tokens=(5,))

    records = [record("a", 5), record("b", 5)]
    metrics = run_metrics(records, RunFacts(windows=(both(100, 90), both(300, 312))), rng=rng)
    assert (metrics["energy_gpu_zeus_j"], metrics["energy_gpu_j"]) == (402, 400)
    facts = RunFacts(windows=(both(100, 90), both(300, None)))
    assert "energy_gpu_zeus_j" not in run_metrics(records, facts, rng=rng)


def test_accuracy_over_the_tasks_that_can_be_solved_here_stands_beside_that_over_all(rng):
    records = [record("a", 11), record("b", 11, verdict="fail"), record("c", 11, verdict="fail")]
    facts = RunFacts(windows=(window(30.0, 2.0, (11, 11, 11)),))
    assert "pass_at_1_valid" not in run_metrics(records, facts, rng=rng)
    known = replace(facts, valid_tasks=frozenset({"a", "b", "other"}))
    metrics = run_metrics(records, known, rng=rng)
    assert metrics["tasks_valid"] == 2
    assert metrics["pass_at_1"] == pytest.approx(1 / 3)
    assert metrics["pass_at_1_valid"] == pytest.approx(1 / 2)
    assert metrics["pass_at_1_valid_ci_low"] < 0.5 < metrics["pass_at_1_valid_ci_high"]
    none_valid = run_metrics(records, replace(facts, valid_tasks=frozenset()), rng=rng)
    assert none_valid["tasks_valid"] == 0
    assert "pass_at_1_valid" not in none_valid


def test_sequences_that_do_not_begin_together_have_times_of_their_own(rng):
    paces = (
        Pace(ttft_s=0.1, decode_s=1.0, begin=-1, first=0, end=10),
        Pace(ttft_s=0.3, decode_s=0.8, begin=3, first=4, end=8),
    )
    facts = RunFacts(
        windows=(
            WindowFacts(
                reading=reading(300.0, 2.0, ttft_s=0.2, prefill_j=40.0),
                output_tokens=(11, 5),
                paces=paces,
                prompt_tokens=20,
                positions=50,
            ),
        ),
        compile=(reading(70.0, 5.0), reading(30.0, 2.0)),
    )
    metrics = run_metrics([record("a", 11), record("b", 5)], facts, rng=rng)
    assert metrics["ttft_s"] == pytest.approx(0.2)
    assert metrics["tpot_s"] == pytest.approx(1.8 / 14)
    # 20 tokens of prompts and 14 steps were needed, and 50 positions computed.
    assert metrics["padding_share"] == pytest.approx(1 - 34 / 50)
    assert metrics["energy_compile_j"] == 100 and metrics["compile_s"] == 7
    assert metrics["energy_prefill_j"] == 40


def test_further_tests_have_a_rate_of_their_own() -> None:
    rng = np.random.default_rng(0)
    verdicts = {"a": ("pass", "pass"), "b": ("pass", "fail"), "c": ("fail", "fail")}
    records = [
        replace(record(task, 5, verdict=base), verdict_plus=plus)
        for task, (base, plus) in verdicts.items()
    ]
    facts = RunFacts(windows=(WindowFacts(reading=reading(1.0, 1.0), output_tokens=(5, 5, 5)),))
    metrics = run_metrics(records, facts, rng=rng)
    assert metrics["pass_at_1"] == pytest.approx(2 / 3)
    assert metrics["pass_at_1_plus"] == pytest.approx(1 / 3)
    assert metrics["pass_at_1_plus_ci_low"] < 1 / 3 < metrics["pass_at_1_plus_ci_high"]
    without = [*records[:2], replace(records[2], verdict_plus=None)]
    assert not [name for name in run_metrics(without, facts, rng=rng) if "plus" in name]
