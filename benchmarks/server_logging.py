"""What jobs at once take to record their runs on a tracking server, and whether all arrives.

    codejoule server --dir DATA                    (in another terminal; it says how to log in)
    python benchmarks/server_logging.py --uri http://127.0.0.1:5000 [--jobs 8] [--tasks 1140]

One run of the bundled model on so many tasks is generated and judged here, once. Then so many
processes, which start at the same moment, record it as the main job does (`Store.start_run`,
`log_results`, `TrackedRun.finish`), below one parent. The time for logging is that of the calls
that go to the server; making the artifacts is told apart. In the end every run is read back and
compared: params, metrics, tags, dataset, traces, and the content of every artifact.
"""

import argparse
import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codejoule.config.compose import compose_experiment
from codejoule.config.schema import ExperimentConfig, TrackingConfig, TrackingName
from codejoule.experiment.evaluation_stage import evaluate
from codejoule.experiment.isolation import generate_isolated
from codejoule.experiment.plan import make_plan
from codejoule.experiment.results import log_results
from codejoule.tracking import TrackedRun, prepare_store

ROOT = Path(__file__).parents[1]
STARTER = ROOT / "src" / "codejoule" / "suites" / "data" / "starter_large.jsonl"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--uri", required=True)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--tasks", type=int, default=1140)
    parser.add_argument("--work", type=Path, help="folder to keep the generated run in")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="server-logging-"))
    experiment = _experiment(work, options.tasks)
    folder = work / f"journal-{options.tasks}"
    if not (folder / "done").exists():
        began_s = time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        plan = make_plan(experiment)
        generate_isolated(plan, folder)
        evaluate(plan, folder)
        (folder / "done").touch()
        print(f"generated and judged {options.tasks} tasks in {time.monotonic() - began_s:.0f} s")
    tracking = TrackingConfig(
        name=TrackingName.server, uri=options.uri, dir=str(work / "mlruns"),
        experiment=f"logging-{time.time_ns()}",
    )  # fmt: skip
    experiment = dataclasses.replace(experiment, tracking=tracking)
    store = prepare_store(tracking)
    if store.away:
        print(f"{options.uri} does not answer", file=sys.stderr)
        return 1
    parent = store.start_sweep("logging", [], {})
    context = multiprocessing.get_context("spawn")
    barrier, told = context.Barrier(options.jobs), context.Queue()
    jobs = [
        context.Process(target=_job, args=(experiment, folder, parent, number, barrier, told))
        for number in range(options.jobs)
    ]
    for job in jobs:
        job.start()
    results = sorted((told.get() for _ in jobs), key=lambda result: result["job"])
    for job in jobs:
        job.join()
    store.end_sweep(parent, "FINISHED")
    problems = [f"job {r['job']}: {r['error']}" for r in results if r["error"]]
    problems += _missing(store, parent, results, options.tasks)
    for result in results:
        parts = ", ".join(f"{name} {took_s:.2f}" for name, took_s in result["took_s"].items())
        print(f"job {result['job']}: logging {result['logging_s']:.2f} s ({parts})")
    spent_s = [result["logging_s"] for result in results]
    print(
        f"{len(jobs)} jobs at once, {options.tasks} tasks each: logging {min(spent_s):.1f} to "
        f"{max(spent_s):.1f} s per job; {len(problems)} problems"
    )
    for problem in problems:
        print(f"  {problem}")
    return 1 if problems else 0


def _experiment(work: Path, tasks: int) -> ExperimentConfig:
    rows = [json.loads(line) for line in STARTER.read_text(encoding="utf-8").splitlines()]
    suite = work / f"tasks-{tasks}.jsonl"
    work.mkdir(parents=True, exist_ok=True)
    with suite.open("w", encoding="utf-8") as file:
        for number in range(tasks):
            row = {**rows[number % len(rows)], "task_id": f"BigCodeBench/{number}"}
            file.write(json.dumps(row) + "\n")
    return compose_experiment(
        ["model=starter", "suite=starter_large", f"suite.path={suite}",
         f"suite.name=starter_{tasks}", "batch=b32",
         "meter=cpu_estimate", "isolation=process", "generation.max_new_tokens=512"]
    )  # fmt: skip


class _Clock:
    """Time of the calls that go to the server, by their names."""

    def __init__(self) -> None:
        self.took_s: dict[str, float] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.took_s[name] = self.took_s.get(name, 0.0) + time.monotonic() - began_s


class _Timed:
    """A `TrackedRun` whose calls are timed."""

    def __init__(self, tracked: TrackedRun, clock: _Clock) -> None:
        self._tracked = tracked
        self._clock = clock

    def log(self, **what: Any) -> None:
        with self._clock.measure("record"):
            self._tracked.log(**what)

    def log_traces(self, *args: Any, **what: Any) -> None:
        with self._clock.measure("traces"):
            self._tracked.log_traces(*args, **what)


def _job(
    experiment: ExperimentConfig, folder: Path, parent: str, number: int, barrier: Any, told: Any
) -> None:
    found: dict[str, Any] = {"job": number, "error": None, "run_id": None, "took_s": {}}
    clock = _Clock()
    try:
        plan = make_plan(experiment)
        with tempfile.TemporaryDirectory() as scratch:
            own = Path(scratch) / "journal"
            shutil.copytree(folder, own)
            artifacts = Path(scratch) / "artifacts"
            barrier.wait()
            with clock.measure("open"):
                store = prepare_store(experiment.tracking)
            with clock.measure("start"):
                tracked = store.start_run(
                    name=f"job{number}", parent_run_id=parent,
                    tags={"codejoule.fingerprint": f"{plan.fingerprint}-{number}"},
                    params=_params(experiment),
                )  # fmt: skip
            log_results(plan, own, artifacts, _Timed(tracked, clock))  # type: ignore[arg-type]
            with clock.measure("finish"):
                tracked.finish("FINISHED")
            found["run_id"] = tracked.run_id
            found["kept"] = store.away
            found["files"] = {
                path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in artifacts.iterdir()
            }
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {error}"
        barrier.abort()
    found["took_s"] = clock.took_s
    found["logging_s"] = sum(clock.took_s.values())
    told.put(found)


def _params(experiment: ExperimentConfig) -> dict[str, object]:
    from codejoule.config.relevance import flat, in_use
    from codejoule.config.typed import to_plain

    return dict(in_use(flat(to_plain(experiment))))


def _missing(store: Any, parent: str, results: list[dict[str, Any]], tasks: int) -> Iterator[str]:
    """What of the runs the server has not."""
    import pyarrow.parquet as pq
    from mlflow.tracing.client import TracingClient
    from mlflow.tracking import MlflowClient

    client = MlflowClient(store.uri)
    traces = TracingClient(store.uri)
    for result in results:
        if result["run_id"] is None:
            continue
        run = client.get_run(result["run_id"])
        name = f"job {result['job']} ({run.info.run_id})"
        if result["kept"] or run.info.status != "FINISHED":
            yield f"{name}: {run.info.status}, not on the server from start to end"
        if run.data.tags.get("mlflow.parentRunId") != parent:
            yield f"{name}: not below its parent"
        if run.data.metrics.get("tasks") != tasks or len(run.data.metrics) < 15:
            yield f"{name}: metrics {run.data.metrics}"
        if len(run.data.params) < 20 or len(run.inputs.dataset_inputs) != 1:
            yield f"{name}: {len(run.data.params)} params, {run.inputs.dataset_inputs}"
        found = traces.search_traces(
            locations=[run.info.experiment_id], run_id=run.info.run_id, max_results=500
        )
        spans = sum(len(trace.data.spans) for trace in found)
        if len(found) != min(200, tasks) or spans != len(found):
            yield f"{name}: {len(found)} traces, {spans} spans"
        with tempfile.TemporaryDirectory() as scratch:
            back = Path(client.download_artifacts(run.info.run_id, "", scratch))
            have = {
                path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in back.iterdir()
            }
            if have != result["files"]:
                yield f"{name}: artifacts differ: {have} and {result['files']}"
            elif pq.read_table(back / "tasks.parquet").num_rows != tasks:
                yield f"{name}: tasks.parquet is short"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
