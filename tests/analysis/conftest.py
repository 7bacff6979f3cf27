"""A real store with a small sweep in it, made once."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codejoule.config.schema import TrackingConfig
from codejoule.domain import EnergyReading, EnergyScope, EnergySource, Suite, TaskRecord
from codejoule.domain.metrics import RunFacts, WindowFacts, run_metrics
from codejoule.tracking import Store, prepare_store, write_tasks_parquet

TASKS = 20
DATASET = Suite(
    name="starter", source="/data/starter.jsonl", checksum="ab" * 32, tasks=(), max_new_tokens=1,
    timeout_s=1.0, stop=(), stop_base=(),
)  # fmt: skip


def params(**changes: object) -> dict[str, object]:
    base: dict[str, object] = {
        "model.name": "starter",
        "model.weights": "bundled",
        "quant.name": "none",
        "quant.bits": None,
        "batch.size": 1,
        "engine.name": "generate",
        "generation.name": "greedy",
        "generation.max_new_tokens": None,
        "suite.name": "starter",
        "suite.split": "complete",
        "tracking.experiment": "codejoule",
        "repeat": 1,
    }
    return base | {key.replace("__", "."): value for key, value in changes.items()}


class Recorder:
    """Writes runs as the main job does."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = folder

    def run(
        self,
        *,
        energy_j: float = 100.0,
        passed: int = 15,
        same_text: int = TASKS,
        source: EnergySource = EnergySource.estimate,
        scope: EnergyScope = EnergyScope.cpu,
        fingerprint: str | None = None,
        parent: str | None = None,
        status: str = "FINISHED",
        judged: bool = True,
        quantize_j: float | None = None,
        tags: Mapping[str, str] | None = None,
        **changes: object,
    ) -> str:
        config = params(**changes)
        records = [_record(i, "pass" if i < passed else "fail", judged) for i in range(TASKS)]
        reading = EnergyReading(
            name="batch", source=source, scope=scope, start_s=0.0, latency_s=2.0, energy_j=energy_j
        )
        facts = RunFacts(
            windows=(WindowFacts(reading=reading, output_tokens=(10,) * TASKS),),
            evaluation_energy_j=20.0 if judged else None,
            evaluation_source=EnergySource.estimate if judged else None,
            quantize=None if quantize_j is None else replace(reading, energy_j=quantize_j),
        )
        own_tags = {
            "codejoule.fingerprint": fingerprint or json.dumps(config, sort_keys=True)[:500],
            "codejoule.validity": "estimate" if source is EnergySource.estimate else "ok",
            "codejoule.energy_source": source.value,
            "codejoule.energy_scope": scope.value,
            "codejoule.weights": str(config["model.weights"]),
            "codejoule.length": "free",
        }
        if judged:
            own_tags["codejoule.energy_source_evaluation"] = "estimate"
        tracked = self.store.start_run(
            name="job", parent_run_id=parent, tags=own_tags | dict(tags or {}), params=config
        )
        tasks, samples = self.folder / "tasks.parquet", self.folder / "samples.jsonl"
        write_tasks_parquet(records, tasks)
        lines = [
            {"task_id": r.task_id, "solution": "x", "raw_solution": f"{i < same_text}"}
            for i, r in enumerate(records)
        ]
        samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
        tracked.log(
            metrics=run_metrics(records, facts, rng=np.random.default_rng(0)),
            artifacts=[tasks, samples],
            dataset=DATASET,
        )
        tracked.finish(status)
        return tracked.run_id


def _record(i: int, verdict: str, judged: bool) -> TaskRecord:
    return TaskRecord(
        task_id=f"t{i}", sample=0, order=i, batch=0, batch_size=TASKS, prompt_tokens=10,
        output_tokens=10, finish_reason="eos", energy_j=None, energy_net_j=None,
        batch_energy_j=None, latency_s=2.0, ttft_s=None, verdict=verdict if judged else None,
        verdict_reason=None, evaluation_s=None, evaluation_cpu_s=None, evaluation_energy_j=None,
        domains=("General",),
    )  # fmt: skip


@pytest.fixture(scope="session")
def session_store(
    tmp_path_factory: pytest.TempPathFactory, with_database: Callable[[Path], Path]
) -> tuple[Path, Path]:
    project = with_database(tmp_path_factory.mktemp("project"))
    return project, tmp_path_factory.mktemp("files")


@pytest.fixture
def recorder(session_store: tuple[Path, Path], request: pytest.FixtureRequest) -> Recorder:
    """An experiment of its own for each test, in one store."""
    project, files = session_store
    config = TrackingConfig(experiment=request.node.name, dir=f"{project}/mlruns")
    return Recorder(prepare_store(config), files)


@pytest.fixture(scope="session")
def sweep(session_store: tuple[Path, Path]) -> Recorder:
    """The demo's shape: one model, three quantizations, two batch sizes."""
    project, files = session_store
    store = prepare_store(TrackingConfig(experiment="sweep", dir=f"{project}/mlruns"))
    recorder = Recorder(store, files)
    parent = store.start_sweep("demo", overrides=["quant=none,gptq8,gptq4"], tags={})
    for batch, factor in ((1, 1.0), (8, 0.25)):
        for quant, energy_j, passed, same in (
            ("gptq4", 60.0, 14, 18), ("none", 100.0, 15, 20), ("gptq8", 80.0, 15, 20),
        ):  # fmt: skip
            recorder.run(
                parent=parent,
                energy_j=energy_j * factor,
                passed=passed,
                same_text=same,
                batch__size=batch,
                quant__name=quant,
                quant__bits={"none": None, "gptq8": 8, "gptq4": 4}[quant],
            )
    store.end_sweep(parent, "FINISHED")
    return recorder
