"""Runs of engines that refill: windows, paces and what is booked where."""

import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from codejoule.config import ConfigError, UserError, conf_folder
from codejoule.config.compose import register_schemas
from codejoule.config.typed import to_experiment
from codejoule.domain import TaskRecord
from codejoule.domain.metrics import run_metrics
from codejoule.experiment.generation_stage import generate
from codejoule.experiment.plan import Plan, make_plan
from codejoule.experiment.records import Results, read_results, task_records
from codejoule.experiment.results import memory_metrics, run_facts, tags_of
from codejoule.experiment.rounds import asked_in
from codejoule.experiment.shares import sessions
from codejoule.experiment.task_views import task_traces
from codejoule.generation.graph.engine import GraphEngine
from codejoule.measurement.feed import BUNDLED_RECORDING, Kind, ReplayFeed
from codejoule.tracking import Journal
from codejoule.tracking.entries import Batch, Entry
from tests.generation.served import event, told_server


@pytest.fixture(scope="module")
def plan_for() -> Callable[..., Plan]:
    def make(*overrides: str) -> Plan:
        register_schemas()
        fixed = ["device=cpu", "meter=cpu_estimate", "meter.idle_s=0", "suite.limit=11",
                 "generation.max_new_tokens=16", "engine.warmup_batches=0"]  # fmt: skip
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            return make_plan(to_experiment(compose("config", [*fixed, *overrides])))

    return make


@pytest.fixture
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models end many sequences in no time; CPU time is known to the nanosecond."""
    monkeypatch.setattr("codejoule.measurement.meter.SHORTEST_READ_SLICE_S", 0.001)


def add_up(results: Results, records: list[TaskRecord]) -> None:
    """Energy of the windows is that of the tasks, and of what was broken off, to the last bit."""
    windows_j = sum(entry.reading.energy_j for entry in results.batches)
    lost_j = results.shares.lost_j.sum()
    assert sum(r.energy_j for r in records if r.energy_j) + lost_j == pytest.approx(windows_j)
    by_window = {r.batch: r.batch_energy_j for r in records}
    assert sum(j for j in by_window.values() if j) + lost_j == pytest.approx(windows_j)
    metrics = run_metrics(records, run_facts(results, None), rng=np.random.default_rng(0))
    assert metrics["energy_generation_j"] + lost_j == pytest.approx(windows_j)


@pytest.mark.usefixtures("short_windows")
@pytest.mark.parametrize("engine", ["graph", "continuous"])
def test_windows_are_cut_as_sequences_end_and_a_task_has_its_part_of_each_that_it_ran_in(
    engine: str, plan_for: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = plan_for(f"engine={engine}", "engine.window_tasks=4", "batch.size=6", "suite.limit=24",
                    "generation.max_new_tokens=160")  # fmt: skip
    generate(plan, tmp_path)
    results = read_results(tmp_path)
    records = task_records(plan, results)
    assert [r.task_id for r in records] == [task.task_id for task in plan.suite.tasks]
    assert len(results.batches) >= 3
    for before, after in pairwise(results.batches):
        assert before.slice is not None and after.slice is not None
        assert before.slice.end_s == after.slice.begin_s, "nothing lies between two windows"
        assert before.slice.end < after.slice.end
        assert before.slice.running, "it goes on through the edge"
        assert len(before.completions) >= 4
    assert after.slice is not None and after.slice.running == ()
    assert [r.block for r in records] == [i // 4 for i in range(24)] or records[0].batch_size > 5
    add_up(results, records)
    # Whoever ran in an earlier window has a part of it.
    (session,) = sessions(results.batches)
    first, last = session[0][1], session[-1][1]
    ended_first_j = results.shares.gross_j[: len(first.completions)]
    assert ended_first_j.sum() < first.reading.energy_j
    assert not {c.task_id for c in first.completions} & {c.task_id for c in last.completions}
    metrics = run_metrics(records, run_facts(results, None), rng=np.random.default_rng(0))
    assert metrics["energy_compile_j"] > 0 and metrics["compile_s"] > 0
    # Of each sequence, from when a slot was free: far less than the run takes.
    assert 0 < metrics["ttft_s"] < metrics["latency_s"] / 2
    assert 0 < metrics["tpot_s"] < metrics["latency_s"] / 16
    if engine == "continuous":
        assert "energy_prefill_j" not in metrics and "padding_share" not in metrics
        assert results.engine.facts["kv_cache"] == "paged"
        return
    assert metrics["energy_prefill_j"] + metrics["energy_decode_j"] == pytest.approx(
        metrics["energy_generation_j"]
    )
    assert 0 < metrics["padding_share"] < 0.6
    assert results.engine.facts["slots"] == 6 and results.engine.facts["cuda_graphs"] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
@pytest.mark.parametrize("engine", ["graph", "continuous"])
def test_the_steady_state_of_a_run_is_that_of_windows_within_it(
    engine: str, plan_for: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = plan_for(f"engine={engine}", "engine.window_tasks=6", "batch.size=3", "suite.limit=62",
                    "generation.max_new_tokens=64")  # fmt: skip
    generate(plan, tmp_path)
    results = read_results(tmp_path)
    facts = run_facts(results, None)
    steady = [w for w in facts.windows if w.steady_tokens is not None]
    assert len(steady) >= len(facts.windows) / 2, "62 requests in 3 slots"
    assert facts.windows[0] not in steady, "it fills its slots"
    metrics = run_metrics(task_records(plan, results), facts,
                          rng=np.random.default_rng(0))  # fmt: skip
    tokens = sum(w.steady_tokens or 0.0 for w in steady)
    steady_j = sum(w.reading.energy_j for w in steady)
    assert metrics["energy_per_output_token_steady_j"] == pytest.approx(steady_j / tokens)
    assert 0 < tokens <= metrics["output_tokens"]
    assert metrics["ttft_p50_s"] <= metrics["ttft_p90_s"] <= metrics["ttft_p99_s"]
    assert metrics["latency_p50_s"] > metrics["tpot_p50_s"] > 0
    assert metrics["energy_per_token_j"] < metrics["energy_per_output_token_j"]


@pytest.mark.slow
def test_over_a_recording_windows_have_the_energy_that_the_card_then_took(
    plan_for: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    feeds: list[ReplayFeed] = []

    def feed(path: Path) -> ReplayFeed:
        feeds.append(ReplayFeed(path))
        return feeds[-1]

    monkeypatch.setattr("codejoule.measurement.opening.ReplayFeed", feed)
    monkeypatch.setattr("codejoule.measurement.meter.SHORTEST_SLICE_S", 0.3)
    recording = BUNDLED_RECORDING
    plan = plan_for("engine=graph", "engine.window_tasks=8", "batch.size=3", "suite.limit=60",
                    "generation.max_new_tokens=64", "meter=replay",
                    f"meter.recording={recording}")  # fmt: skip
    generate(plan, tmp_path)
    results = read_results(tmp_path)
    readings = [entry.reading for entry in results.batches]
    opened_s = readings[0].start_s + time.monotonic() - time.time()
    ticks = feeds[0]._records[feeds[0]._records["kind"] == Kind.tick]
    edges_s = opened_s + np.cumsum([0.0, *(reading.latency_s for reading in readings)])
    taken_j = np.diff(np.interp(edges_s, ticks["after_s"], ticks["value"]))
    assert sum(r.energy_j for r in readings) == pytest.approx(taken_j.sum(), rel=0.05)
    assert all(r.ticks and r.ticks >= 2 for r in readings[:-1])
    add_up(results, task_records(plan, results))


@pytest.mark.slow
def test_arrivals_are_those_of_the_rate_and_of_the_seed(plan_for: Callable[..., Plan]) -> None:
    with told_server(lambda body: (200, [])) as url:
        open_loop = ("engine=server", f"engine.url={url}", "suite=starter_large",
                     "suite.limit=200")  # fmt: skip
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
    assert arrivals_s == again.arrivals_s(0) != other.arrivals_s(0)
    rest_s = plan.arrivals_s(0, 150)
    assert rest_s is not None and len(rest_s) == 50 and rest_s != arrivals_s[:50]
    assert plan.fingerprint == again.fingerprint != plan_for("batch=b1").fingerprint


@pytest.mark.usefixtures("short_windows")
def test_what_memory_is_too_small_for_is_decoded_with_fewer_slots_and_what_had_ended_is_kept(
    plan_for: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = GraphEngine.decode
    tried: list[tuple[int, int]] = []

    def decode(engine: GraphEngine, window: Any) -> Any:
        slots = engine.facts()["slots"]
        tried.append((slots, len(window.prompts)))
        for told, ended in enumerate(real(engine, window)):
            yield ended
            if slots > 2 and told == 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(GraphEngine, "decode", decode)
    plan = plan_for("engine=graph", "engine.window_tasks=2", "batch.size=4",
                    "generation.max_new_tokens=160")  # fmt: skip
    generate(plan, tmp_path)
    results = read_results(tmp_path)
    records = task_records(plan, results)
    assert [r.task_id for r in records] == [task.task_id for task in plan.suite.tasks]
    lost, rest = sessions(results.batches)
    kept = sum(len(entry.completions) for _, entry in lost)
    assert kept > 0 and tried == [(4, 11), (2, 11 - kept)]
    assert len(results.compile) == 2, "the second time for two slots"
    (failed,) = results.out_of_memory
    assert (failed.sequences, failed.reduced_to) == (4, 2)
    add_up(results, records)
    broken_off = {(r.task_id, r.sample) for r in lost[-1][1].slice.running if lost[-1][1].slice}
    assert broken_off and broken_off <= {(c.task_id, 0) for _, e in rest for c in e.completions}
    assert memory_metrics(plan, results)["energy_broken_off_j"] > 0


@pytest.mark.slow
@pytest.mark.usefixtures("short_windows")
@pytest.mark.parametrize("engine", ["graph", "continuous"])
def test_a_killed_run_keeps_what_had_ended_and_books_apart_what_was_broken_off(
    engine: str, plan_for: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    append = Journal.append

    def killed(journal: Journal, entry: Entry) -> None:
        append(journal, entry)
        if isinstance(entry, Batch) and entry.batch == 1:
            raise KeyboardInterrupt

    plan = plan_for(f"engine={engine}", "engine.window_tasks=3", "batch.size=6", "suite.limit=24",
                    "generation.max_new_tokens=160")  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            generate(plan, tmp_path)
    with Journal(tmp_path) as journal:
        before = list(journal.entries(Batch))
    generate(plan, tmp_path)
    results = read_results(tmp_path)
    assert list(results.batches[:2]) == before
    assert [entry.batch for entry in results.batches] == list(range(len(results.batches)))
    records = task_records(plan, results)
    assert [r.task_id for r in records] == [task.task_id for task in plan.suite.tasks]
    last = before[-1]
    assert last.slice is not None and last.slice.running
    kept = results.shares.kept(1, last.reading)
    lost_j = results.shares.lost_j.sum()
    assert 0 < lost_j < sum(entry.reading.energy_j for entry in before)
    assert kept.energy_j < last.reading.energy_j
    # Half of its slots' time was for nothing, and so was that part of its time.
    assert kept.latency_s / last.reading.latency_s == pytest.approx(
        kept.energy_j / last.reading.energy_j
    )
    add_up(results, records)
    assert memory_metrics(plan, results)["energy_broken_off_j"] == pytest.approx(lost_j)


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


@pytest.mark.parametrize(
    ("size", "limit", "wanted"),
    [(32, 64, 8), (32, 63, 8), (1, 11, 1), (8, 63, 8), (8, 64, 8), (4, 63, 4), (48, 60, 6)],
)
def test_windows_are_as_many_as_statistics_need_and_no_smaller(
    plan_for: Callable[..., Plan], size: int, limit: int, wanted: int
) -> None:
    suite = ("suite=starter_large", f"suite.limit={limit}", f"batch.size={size}")
    plan = plan_for("engine=graph", *suite)
    assert [len(batch) for batch in plan.batches] == [limit]
    assert plan.window_tasks == wanted
    assert plan_for("engine=graph", "engine.window_tasks=5", *suite).window_tasks == 5


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
        if len(asked) > 7 and not healthy[0]:
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
        with Journal(tmp_path) as journal:
            kept = sum(len(entry.completions) for entry in journal.entries(Batch))
        assert kept in (4, 5), "all that had been answered; two are in flight"
        generate(plan_for(*overrides), tmp_path)
    # The trial request, the one whose prompt is counted, and what was left.
    assert len(asked) == 2 + 11 - kept
    results = read_results(tmp_path)
    records = task_records(plan, results)
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


def test_a_trace_has_the_answer_and_the_time_of_its_own_task(
    plan_for: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = plan_for("engine=graph", "engine.window_tasks=2", "batch.size=3")
    generate(plan, tmp_path)
    results = read_results(tmp_path)
    completions = [c for entry in results.batches for c in entry.completions]
    ended = [completion.task_id for completion in completions]
    with Journal(tmp_path) as journal:
        asked = asked_in(plan, journal)
    traces = task_traces(plan, results, task_records(plan, results), asked)
    assert [trace.task_id for trace in traces] == [task.task_id for task in plan.suite.tasks]
    assert [trace.task_id for trace in traces] != ended, "sequences end in another order"
    answers = {completion.task_id: completion.text for completion in completions}
    assert {trace.task_id: trace.answer for trace in traces} == answers
    first, last = results.batches[0].reading, results.batches[-1].reading
    for trace in traces:
        assert trace.start_s >= first.start_s
        assert trace.start_s + trace.latency_s <= last.start_s + last.latency_s + 0.1
