"""What a store of 10,000 runs costs a job, a sweep that has finished before, and an analysis.

    python benchmarks/large_store.py make FOLDER [--runs 10000]
    python benchmarks/large_store.py time FOLDER [--rounds 5]

`make` runs one small job of the bundled model, and copies its rows in MLflow's own schema: 200
configurations (5 sizes of batch x 4 quantizations x 10 temperatures), again and again, each with
its own params, tags, 40 metrics and artifacts. The newest run of each configuration has the
fingerprint that this machine gives it, so that the sweep over all of them has finished before; the
older ones have others, as runs of an earlier version have. `time` measures, each in processes of
its own and beside the same in an empty store: a job from its start to its first generation, the
sweep of 200 finished configurations, `codejoule plan`, and `codejoule analyze --where` for filters
that let ever more runs through.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from codejoule.config.compose import compose_sweep
from codejoule.config.relevance import flat, in_use
from codejoule.config.typed import to_plain
from codejoule.experiment.plan import make_plan
from codejoule.experiment.run import run_name

SWEEP = (
    "batch=b1,b4,b8,b16,b32", "quant=none,gptq8,gptq4,awq", "generation=sample",
    "generation.temperature=0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0", "suite.limit=8",
    "meter=cpu_estimate",
)  # fmt: skip
TEMPLATE = ("batch=b8", "generation=sample", "suite.limit=8", "meter=cpu_estimate")
OTHER = ("batch=b8", "generation.seed=1", "suite.limit=8", "meter=cpu_estimate")
METRICS = 40
CODEJOULE = [sys.executable, "-m", "codejoule"]


def make(folder: Path, runs: int) -> None:
    """Fill a new store below `folder`."""
    codejoule(folder, "run", *TEMPLATE, *where(folder))
    began_s = time.monotonic()
    experiments = compose_sweep([*SWEEP, *where(folder)])
    facts = [
        (
            run_name(own),
            make_plan(own).fingerprint,
            {key: text(value) for key, value in in_use(flat(to_plain(own))).items()},
        )
        for own in experiments
    ]
    print(f"{len(facts)} configurations planned in {time.monotonic() - began_s:.1f} s", flush=True)
    began_s = time.monotonic()
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database, database:
        database.execute("PRAGMA synchronous = OFF")
        Copies(database, folder, facts).make(runs)
    print(f"{runs} runs written in {time.monotonic() - began_s:.1f} s", flush=True)


class Copies:
    """Copies of the one run that the store has."""

    def __init__(
        self,
        database: sqlite3.Connection,
        folder: Path,
        facts: Sequence[tuple[str, str, dict[str, str]]],
    ) -> None:
        self.database = database
        self.facts = facts
        self.rng = np.random.default_rng(0)
        database.row_factory = sqlite3.Row
        (self.run,) = [dict(row) for row in database.execute("SELECT * FROM runs")]
        self.tags = self._of("tags")
        self.metrics = {str(key): float(value) for key, value in self._of("metrics").items()}
        # A run on a GPU has more than one on a CPU.
        for number in range(METRICS - len(self.metrics)):
            self.metrics[f"energy_gpu_{number}_j"] = self.metrics["energy_generation_j"]
        (self.input,) = [dict(row) for row in database.execute("SELECT * FROM inputs")]
        self.artifacts = Path(str(self.run["artifact_uri"]).removeprefix("file://"))

    def _of(self, table: str) -> dict[str, Any]:
        return dict(self.database.execute(f"SELECT key, value FROM {table}").fetchall())

    def make(self, runs: int) -> None:
        """Make `runs` of them, the newest with the fingerprints of today."""
        count, parent = len(self.facts), ""
        for number in range(runs):
            turn, place = divmod(number, count)
            start_ms = int(self.run["start_time"]) - (runs - number) * 60_000
            if place == 0:
                name = f"sweep-{turn:03d}"
                parent = self._insert(name, start_ms, 60_000 * count, self._parent_tags(name))
            name, fingerprint, params = self.facts[place]
            if number < runs - count:
                fingerprint = hashlib.sha256(f"{turn}/{fingerprint}".encode()).hexdigest()[:32]
            tags = self.tags | {
                "codejoule.fingerprint": fingerprint,
                "codejoule.sweep": f"sweep-{turn:03d}",
                "mlflow.parentRunId": parent,
                "mlflow.runName": name,
            }
            run_id = self._insert(name, start_ms, 50_000, tags)
            self._fill(run_id, params, start_ms)

    def _parent_tags(self, name: str) -> dict[str, str]:
        kept = {key: self.tags[key] for key in ("mlflow.user", "codejoule.host")}
        return kept | {"codejoule.kind": "sweep", "codejoule.sweep": name, "mlflow.runName": name}

    def _insert(self, name: str, start_ms: int, took_ms: int, tags: dict[str, str]) -> str:
        run_id = uuid.UUID(bytes=self.rng.bytes(16)).hex
        place = self.artifacts.parents[1] / run_id / "artifacts"
        row = self.run | {
            "run_uuid": run_id, "name": name, "start_time": start_ms,
            "end_time": start_ms + took_ms, "artifact_uri": place.as_uri(),
        }  # fmt: skip
        self._row("runs", row)
        self.database.executemany(
            "INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)",
            [(key, value, run_id) for key, value in tags.items()],
        )
        return run_id

    def _row(self, table: str, row: dict[str, Any]) -> None:
        marks = ", ".join("?" for _ in row)
        self.database.execute(
            f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values())
        )

    def _fill(self, run_id: str, params: dict[str, str], start_ms: int) -> None:
        self.database.executemany(
            "INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)",
            [(key, value, run_id) for key, value in params.items()],
        )
        factor = float(np.exp(self.rng.normal(0, 0.1)))
        metrics = {
            name: value * (factor if "energy" in name else 1.0)
            for name, value in self.metrics.items()
        }
        values = [(name, value, start_ms, run_id) for name, value in metrics.items()]
        for table in ("metrics", "latest_metrics"):
            self.database.executemany(
                f"INSERT INTO {table} (key, value, timestamp, step, is_nan, run_uuid) "
                "VALUES (?, ?, ?, 0, 0, ?)",
                values,
            )
        own = {"input_uuid": uuid.UUID(bytes=self.rng.bytes(16)).hex, "destination_id": run_id}
        self._row("inputs", self.input | own)
        place = self.artifacts.parents[1] / run_id / "artifacts"
        place.mkdir(parents=True)
        for file in self.artifacts.iterdir():
            os.link(file, place / file.name)


def text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def where(folder: Path) -> list[str]:
    return [
        f"tracking.dir={folder}/mlruns",
        f"hydra.run.dir={folder}/outputs/${{now:%H-%M-%S-%f}}",
        f"hydra.sweep.dir={folder}/multirun/${{now:%H-%M-%S-%f}}",
    ]


def codejoule(folder: Path, *arguments: str) -> tuple[float, str]:
    """Run a command; its wall time [s] and what it printed."""
    began_s = time.monotonic()
    done = subprocess.run(
        [*CODEJOULE, *arguments], capture_output=True, text=True, check=False, cwd=folder
    )
    took_s = time.monotonic() - began_s
    if done.returncode != 0:
        raise SystemExit(f"{arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return took_s, done.stdout


def to_first_generation(folder: Path, seed: int) -> float:
    """Wall time of a new job from its start to where its first batch begins [s]."""
    journals = folder / "mlruns" / "journals"
    known = set(journals.glob("*/*"))
    began_s = time.monotonic()
    command = [*CODEJOULE, "run", *OTHER, f"generation.seed={seed}", *where(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as job:
        while job.poll() is None:
            if any(b'"kind": "engine"' in content for content in _new(journals, known)):
                took_s = time.monotonic() - began_s
                job.wait()
                return took_s
            time.sleep(0.005)
    raise SystemExit(f"the job ended with exit code {job.returncode} before it generated")


def _new(journals: Path, known: set[Path]) -> Iterator[bytes]:
    for folder in set(journals.glob("*/*")) - known:
        if (file := folder / "journal.jsonl").exists():
            yield file.read_bytes()


def measure(folder: Path, rounds: int) -> None:
    """Print what each costs in the store below `folder`, and in an empty one."""
    empty = folder / "empty"
    shutil.rmtree(empty, ignore_errors=True)
    empty.mkdir()
    codejoule(empty, "run", *TEMPLATE, *where(empty))
    database = folder / "mlruns" / "mlflow.db"
    with closing(sqlite3.connect(database)) as opened:
        (runs,) = opened.execute("SELECT count(*) FROM runs").fetchone()
    print(f"{runs} runs, {database.stat().st_size / 2**20:.0f} MiB", flush=True)
    seeds = iter(range(int(time.time()), 2**31))
    times: dict[Path, list[float]] = {folder: [], empty: []}
    for _ in range(rounds):
        for store, found in times.items():
            found.append(to_first_generation(store, next(seeds)))
    for store, found in times.items():
        name = "empty store" if store == empty else "large store"
        print(f"job, start to first generation, {name}: {_told(found)}", flush=True)
    skipped = [codejoule(folder, "run", "-m", *SWEEP, *where(folder)) for _ in range(rounds)]
    (said,) = {re.search(r"\d+ jobs: .*", output)[0] for _, output in skipped}
    print(f"sweep that has finished before ({said}): {_told([s for s, _ in skipped])}")
    for store in (folder, empty):
        name = "empty store" if store == empty else "large store"
        found = [codejoule(store, "plan", *SWEEP, *where(store))[0] for _ in range(rounds)]
        print(f"codejoule plan of it, {name}: {_told(found)}", flush=True)
    uri = f"sqlite:///{database}"
    for query in (
        "params.quant.name = 'gptq4' and params.batch.size = '8' and "
        "params.generation.temperature = '0.5'",
        "params.quant.name = 'gptq4' and params.batch.size = '8'",
        "params.quant.name = 'gptq4'",
    ):
        found, matched = [], 0
        for _ in range(rounds):
            took_s, output = codejoule(
                folder, "analyze", "--tracking-uri", uri, "--where", query, "--out",
                str(folder / "report"), "--json",
            )  # fmt: skip
            found.append(took_s)
            matched = len(json.loads(output)["runs"])
        print(f"analyze --where {query!r} ({matched} runs): {_told(found)}", flush=True)


def _told(times_s: Sequence[float]) -> str:
    return f"{min(times_s):.2f} s at least, {float(np.median(times_s)):.2f} at the median"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("make", "time"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    folder = args.folder.absolute()
    if args.what == "make":
        folder.mkdir(parents=True)
        make(folder, args.runs)
    else:
        measure(folder, args.rounds)


if __name__ == "__main__":
    main()
