"""Runs of engines that refill: windows, paces and what is booked where."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from codejoule.config import ConfigError, UserError, project_root
from codejoule.config.compose import register_schemas
from codejoule.config.typed import to_experiment
from codejoule.domain.metrics import run_metrics
from codejoule.domain.steady import STEADY
from codejoule.experiment.generation_stage import generate
from codejoule.experiment.plan import Plan, make_plan
from codejoule.experiment.records import read_results, task_records
from codejoule.experiment.results import run_facts, tags_of
from codejoule.generation.graph.engine import GraphEngine
from codejoule.measurement.feed import Kind, ReplayFeed
from tests.generation.served import event, told_server


@pytest.fixture(scope="module")
def plan_for() -> Callable[..., Plan]:
    def make(*overrides: str) -> Plan:
        register_schemas()
        fixed = ["device=cpu", "meter=cpu_estimate", "meter.idle_s=0", "suite.limit=11",
                 "generation.max_new_tokens=16", "engine.warmup_batches=0"]  # fmt: skip
        with initialize_config_dir(str(project_root() / "conf"), version_base="1.3"):
            return make_plan(to_experiment(compose("config", [*fixed, *overrides])))

    return make


@pytest.mark.parametrize("engine", ["graph", "continuous"])
def test_a_window_is_so_many_tasks_and_its_energy_is_shared_among_them(
    engine: str, plan_for: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = plan_for(f"engine={engine}", "engine.window_tasks=8", "batch.size=3")
    generate(plan, tmp_path)
    results = read_results(tmp_path)
    records = task_records(plan, results.batches, {})
    assert [r.task_id for r in records] == [task.task_id for task in plan.suite.tasks]
    assert [r.batch for r in records] == [0] * 8 + [1] * 3
    assert [r.batch_size for r in records] == [8] * 8 + [3] * 3
    for entry, part in zip(results.batches, (records[:8], records[8:]), strict=True):
        shares = [r.energy_j for r in part if r.energy_j is not None]
        assert sum(shares) == pytest.approx(entry.reading.energy_j) and len(shares) == len(part)
    metrics = run_metrics(records, run_facts(results, None), rng=np.random.default_rng(0))
    assert metrics["energy_compile_j"] > 0 and metrics["compile_s"] > 0
    # Of each sequence, from when a slot was free: far less than a window takes.
    assert 0 < metrics["ttft_s"] < results.batches[0].reading.latency_s / 2
    assert 0 < metrics["tpot_s"] < metrics["latency_s"] / 16
    if engine == "continuous":
        assert "energy_prefill_j" not in metrics and "padding_share" not in metrics
        assert results.engine.facts["kv_cache"] == "paged"
        return
    assert metrics["energy_prefill_j"] + metrics["energy_decode_j"] == pytest.approx(
        metrics["energy_generation_j"]
    )
    assert 0 < metrics["padding_share"] < 0.6
    assert results.engine.facts["slots"] == 3 and results.engine.facts["cuda_graphs"] == 0


@pytest.mark.parametrize("engine", ["graph", "continuous"])
def test_the_steady_state_of_a_run_is_part_of_its_windows(
    engine: str, plan_for: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = plan_for(f"engine={engine}", "engine.window_tasks=60", "batch.size=3", "suite.limit=62",
                    "generation.max_new_tokens=64", "meter.sample_period_s=0.02")  # fmt: skip
    generate(plan, tmp_path)
    results = read_results(tmp_path)
    first, last = (entry.reading for entry in results.batches)
    begin_s, end_s = (first.marks_s[name] for name in STEADY)
    assert 0 < begin_s < end_s <= first.latency_s
    assert end_s - begin_s > first.latency_s / 2, "60 requests in 3 slots"
    records = task_records(plan, results.batches, {})
    metrics = run_metrics(records, run_facts(results, None), rng=np.random.default_rng(0))
    steady_j = first.energy_at_marks_j[STEADY[1]] - first.energy_at_marks_j[STEADY[0]]
    assert 0 < steady_j < first.energy_j
    tokens = metrics["throughput_steady_tokens_per_s"] * (end_s - begin_s)
    assert STEADY[0] not in last.marks_s, "2 requests"
    assert metrics["energy_per_output_token_steady_j"] == pytest.approx(steady_j / tokens)
    assert 0 < tokens <= metrics["output_tokens"]
    assert metrics["ttft_p50_s"] <= metrics["ttft_p90_s"] <= metrics["ttft_p99_s"]
    assert metrics["latency_p50_s"] > metrics["tpot_p50_s"] > 0
    assert metrics["energy_per_token_j"] < metrics["energy_per_output_token_j"]


def test_over_a_recording_the_steady_state_has_the_energy_that_the_card_then_took(
    plan_for: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    feeds: list[ReplayFeed] = []

    def feed(path: Path) -> ReplayFeed:
        feeds.append(ReplayFeed(path))
        return feeds[-1]

    monkeypatch.setattr("codejoule.measurement.opening.ReplayFeed", feed)
    recording = project_root() / "tests/golden/h200_ledger.npz"
    plan = plan_for("engine=graph", "engine.window_tasks=60", "batch.size=3", "suite.limit=60",
                    "generation.max_new_tokens=64", "meter=replay",
                    f"meter.recording={recording}")  # fmt: skip
    generate(plan, tmp_path)
    reading = read_results(tmp_path).batches[0].reading
    opened_s = reading.start_s + time.monotonic() - time.time()
    ticks = feeds[0]._records[feeds[0]._records["kind"] == Kind.tick]
    span_s = [opened_s + reading.marks_s[name] for name in STEADY]
    begin_j, end_j = np.interp(span_s, ticks["after_s"], ticks["value"])
    steady_j = reading.energy_at_marks_j[STEADY[1]] - reading.energy_at_marks_j[STEADY[0]]
    assert steady_j == pytest.approx(end_j - begin_j, rel=0.1)


def test_arrivals_are_those_of_the_rate_and_of_the_windows_seed(
    plan_for: Callable[..., Plan],
) -> None:
    with told_server(lambda body: (200, [])) as url:
        open_loop = ("engine=server", f"engine.url={url}", "engine.window_tasks=200",
                     "suite=starter_large", "suite.limit=400")  # fmt: skip
        assert plan_for(*open_loop).arrivals_s(0) is None
        plan, again, other = (
            plan_for(*open_loop, "batch.arrival_rate_per_s=4", f"repeat={repeat}")
            for repeat in (1, 1, 2)
        )
    arrivals_s = plan.arrivals_s(0)
    assert arrivals_s is not None and len(arrivals_s) == 200
    gaps_s = np.diff(arrivals_s)
    assert (gaps_s > 0).all()
    # Exponential: as much scatter as mean.
    assert np.mean(gaps_s) == pytest.approx(0.25, rel=0.2)
    assert np.std(gaps_s) == pytest.approx(0.25, rel=0.3)
    assert arrivals_s == again.arrivals_s(0) != other.arrivals_s(0) != plan.arrivals_s(1)
    assert plan.fingerprint == again.fingerprint != plan_for("batch=b1").fingerprint


def test_a_window_that_memory_is_too_small_for_is_decoded_again_with_fewer_slots(
    plan_for: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = GraphEngine.decode
    tried: list[tuple[int, int]] = []

    def decode(engine: GraphEngine, window: Any) -> Any:
        slots = engine.facts()["slots"]
        tried.append((slots, len(window.prompts)))
        if slots > 2:
            torch.randn(400, 400).matrix_power(40)  # long enough for CPU time to tick
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(engine, window)

    monkeypatch.setattr(GraphEngine, "decode", decode)
    plan = plan_for("engine=graph", "engine.window_tasks=8", "batch.size=4")
    generate(plan, tmp_path)
    assert tried == [(4, 8), (2, 8), (2, 3)]
    results = read_results(tmp_path)
    assert [(b.batch, b.first, len(b.completions)) for b in results.batches] == [
        (0, 0, 8), (1, 0, 3)
    ]  # fmt: skip
    assert len(results.compile) == 2, "the second time for two slots"


def test_order_by_length_puts_the_longest_prompts_first(plan_for: Callable[..., Plan]) -> None:
    given = plan_for("batch=b4")
    ordered = plan_for("batch=b4", "batch.order=length")
    lengths = [len(r.task.complete_prompt) for batch in ordered.batches for r in batch]
    assert (
        lengths
        == sorted(lengths, reverse=True)
        != [len(r.task.complete_prompt) for batch in given.batches for r in batch]
    )
    assert given.fingerprint != ordered.fingerprint


def test_windows_hold_eight_batches_unless_told_otherwise(plan_for: Callable[..., Plan]) -> None:
    sizes = [len(b) for b in plan_for("engine=graph", "batch.size=1").batches]
    assert sizes == [8, 3]


def test_a_key_of_another_engine_is_refused(plan_for: Callable[..., Plan]) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_for("engine=static", "engine.check_every=4")
    assert str(caught.value) == (
        "engine.check_every=4: engine=static does not use it; leave it null, or choose engine=graph"
    )


def test_a_run_on_a_server_continues_where_the_server_failed(
    plan_for: Callable[..., Plan], tmp_path: Path
) -> None:
    asked: list[str] = []
    healthy = [True]

    def answer(body: dict[str, Any]) -> tuple[int, list[str]]:
        asked.append(body["prompt"])
        torch.randn(300, 300).matrix_power(20)  # long enough for CPU time to tick
        if len(asked) > 6 and not healthy[0]:
            return 500, ["worn out"]
        return 200, [event("    return 1\n"), event("", "stop")]

    with told_server(answer) as url:
        overrides = ("engine=server", f"engine.url={url}", "engine.window_tasks=4", "batch.size=2")
        plan = plan_for(*overrides)
        assert plan.served is not None and plan.memory is None and not plan.isolated
        healthy[0] = False
        with pytest.raises(UserError, match=r"gives no answer \(500 worn out"):
            generate(plan, tmp_path)
        healthy[0] = True
        asked.clear()
        generate(plan_for(*overrides), tmp_path)
    # The trial request, and what the first window's four tasks left.
    assert len(asked) == 1 + 11 - 4
    results = read_results(tmp_path)
    records = task_records(plan, results.batches, {})
    assert [r.task_id for r in records] == [task.task_id for task in plan.suite.tasks]
    metrics = run_metrics(records, run_facts(results, None), rng=np.random.default_rng(0))
    assert "energy_load_j" not in metrics and "energy_prefill_j" not in metrics
    assert metrics["energy_generation_j"] > 0 and metrics["ttft_s"] > 0
    assert results.engine.facts["proven"] is False and results.load.model["served_model"] == "told"
    assert tags_of(plan, results)["codejoule.proof"] == "none: served"


def test_what_is_served_is_part_of_what_a_run_is(plan_for: Callable[..., Plan]) -> None:
    prints = []
    for model in ("one", "one", "two"):
        with told_server(lambda body: (200, []), models=[model]) as url:
            plan = plan_for("engine=server", f"engine.url={url}")
            prints.append(plan.fingerprint)
    assert prints[0] == prints[1] != prints[2], "whatever its address"


def test_a_kernel_is_the_engines_where_that_loads_the_model(
    plan_for: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "generation" / "fake_vllm"))
    asked = ("quant=gptq4", "quant.kernel=exllama")
    plan = plan_for(*asked, "engine=vllm", f"engine.python={sys.executable}")
    assert plan.experiment.quant.kernel == "exllama"
    with pytest.raises(ConfigError, match="no such kernel for quant=gptq4"):
        plan_for(*asked)
