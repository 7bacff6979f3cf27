"""A batch that memory has no room for is halved, on record, and the run goes on."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

from codejoule.config import UserError, conf_folder
from codejoule.config.compose import register_schemas
from codejoule.config.typed import to_experiment
from codejoule.experiment.generation_stage import generate
from codejoule.experiment.plan import Plan, make_plan
from codejoule.experiment.records import read_results, task_records
from codejoule.experiment.results import memory_metrics, tags_of
from codejoule.generation.generate import GenerateEngine
from codejoule.tracking import Journal
from codejoule.tracking.entries import Batch, Entry

Room = Callable[[int], list[int]]


@pytest.fixture(scope="module")
def plan_for() -> Callable[..., Plan]:
    def make(*overrides: str) -> Plan:
        register_schemas()
        fixed = ["device=cpu", "meter=cpu_estimate", "meter.idle_s=0", "suite.limit=11",
                 "generation.max_new_tokens=8", "engine.warmup_batches=0"]  # fmt: skip
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            return make_plan(to_experiment(compose("config", [*fixed, *overrides])))

    return make


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    """A memory in which so many sequences have room; the sizes that were tried."""
    real = GenerateEngine.decode

    def install(most: int) -> list[int]:
        tried: list[int] = []

        def decode(engine: GenerateEngine, window: Any) -> Any:
            tried.append(len(window.prompts))
            if len(window.prompts) > most:
                # Long enough for the clock of CPU time to tick.
                torch.randn(400, 400).matrix_power(40)
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nx")
            return real(engine, window)

        monkeypatch.setattr(GenerateEngine, "decode", decode)
        return tried

    return install


def test_the_batch_is_halved_and_each_part_has_a_window_of_its_own(
    plan_for: Callable[..., Plan], room: Room, tmp_path: Path
) -> None:
    plan = plan_for("batch=b8")
    tried = room(3)
    generate(plan, tmp_path)
    assert tried == [8, 4, 2, 2, 2, 2, 2, 1], "the second batch starts with what fits"
    results = read_results(tmp_path)
    assert [(b.batch, b.first) for b in results.batches] == [
        (0, 0), (0, 2), (0, 4), (0, 6), (1, 0), (1, 2)
    ]  # fmt: skip
    records = task_records(plan, results)
    assert [r.task_id for r in records] == [task.task_id for task in plan.suite.tasks]
    assert [r.batch for r in records] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert [r.batch_size for r in records] == [2] * 10 + [1]
    by_window = {r.batch: r.batch_energy_j for r in records}
    shares = [r.energy_j for r in records]
    assert sum(j for j in shares if j) == pytest.approx(sum(j for j in by_window.values() if j))


def test_what_failed_attempts_took_is_recorded_and_in_no_batch(
    plan_for: Callable[..., Plan], room: Room, tmp_path: Path
) -> None:
    plan = plan_for("batch=b8", "suite.limit=8")
    room(4)
    generate(plan, tmp_path)
    results = read_results(tmp_path)
    (lost,) = results.out_of_memory
    assert (lost.sequences, lost.reduced_to, lost.during) == (8, 4, "batch")
    assert lost.error == "CUDA out of memory. Tried to allocate 2.00 GiB."
    metrics = memory_metrics(plan, results)
    assert lost.reading is not None
    assert metrics["energy_out_of_memory_j"] == lost.reading.energy_j > 0
    assert metrics["predicted_memory_bytes"] > 0
    tags = tags_of(plan, results)
    assert (tags["codejoule.out_of_memory"], tags["codejoule.batch_reduced_to"]) == ("1", "4")


def test_a_continued_run_remembers_what_fits_and_repeats_nothing(
    plan_for: Callable[..., Plan], room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for("batch=b8", "suite.limit=8")
    tried = room(2)
    append = Journal.append

    def killed(journal: Journal, entry: Entry) -> None:
        append(journal, entry)
        if isinstance(entry, Batch) and entry.first == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            generate(plan, tmp_path)
    tried.clear()
    generate(plan, tmp_path)
    assert tried == [2, 2]
    done = [c.task_id for b in read_results(tmp_path).batches for c in b.completions]
    assert done == [task.task_id for task in plan.suite.tasks]


def test_greedy_texts_do_not_depend_on_the_halving(
    plan_for: Callable[..., Plan], room: Room, tmp_path: Path
) -> None:
    plan = plan_for("batch=b8", "suite.limit=8")
    generate(plan, tmp_path / "whole")
    room(4)
    generate(plan, tmp_path / "halved")
    texts = [
        [c.text for b in read_results(tmp_path / name).batches for c in b.completions]
        for name in ("whole", "halved")
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["batch=b8", "batch.on_out_of_memory=fail"], "with 8 sequences at once .*=halve"),
        (["batch=b1"], r"with 1 sequences at once .*2\.00 GiB.*; use quantized weights"),
    ],
)
def test_where_nothing_may_be_halved_the_user_is_told(
    overrides: list[str],
    message: str,
    plan_for: Callable[..., Plan],
    room: Room,
    tmp_path: Path,
) -> None:
    room(0)
    with pytest.raises(UserError, match=f"out of memory: starter {message}"):
        generate(plan_for(*overrides), tmp_path)
    assert not list(re.findall("out_of_memory", (tmp_path / "journal.jsonl").read_text()))


def test_warming_up_halves_too(plan_for: Callable[..., Plan], room: Room, tmp_path: Path) -> None:
    tried = room(4)
    generate(plan_for("batch=b8", "suite.limit=8", "engine.warmup_batches=1"), tmp_path)
    assert tried == [8, 4, 4, 4]


def test_another_error_is_no_lack_of_memory(
    plan_for: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(GenerateEngine, "decode", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        generate(plan_for("batch=b8"), tmp_path)
