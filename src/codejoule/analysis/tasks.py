"""Figures of every task of every run, read in bulk."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from codejoule.analysis.store import artifacts
from codejoule.config.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_ARTIFACT = "tasks.parquet"
_COLUMNS = [
    "task_id", "order", "batch", "output_tokens", "energy_j", "latency_s", "verdict",
    "evaluation_energy_j", "domains", "block",
]  # fmt: skip
_THREADS = 8
_PASS = "pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFigures:
    """One row per run, one column per task. NaN is "not measured" or "not in this run"."""

    run_ids: tuple[str, ...]
    """Runs, ``r`` of them."""
    task_ids: tuple[str, ...]
    """Tasks, ``t`` of them."""
    energy_j: NDArray[np.float64]
    """Energy of generation allocated to each task, all its samples [J], shape (r, t)."""
    evaluation_j: NDArray[np.float64]
    """Energy of judging them [J]."""
    output_tokens: NDArray[np.float64]
    """Generated tokens."""
    latency_s: NDArray[np.float64]
    """Wall time of the task's windows [s]."""
    passed: NDArray[np.float64]
    """Share of the task's samples that passed."""
    order: NDArray[np.float64]
    """Place of the task's first sample in its run."""
    window: NDArray[np.int64]
    """Block of the task's first sample: its accounting window, or, with an engine that refills, the
    block of requests that stands for one; -1 where the task is not in the run."""
    domains: dict[str, NDArray[np.bool_]]
    """Which tasks belong to each domain, shape (t,)."""

    def rows(self, run_ids: Sequence[str]) -> NDArray[np.int64]:
        """Rows of those of `run_ids` that have figures of tasks, in that order."""
        place = {run_id: i for i, run_id in enumerate(self.run_ids)}
        return np.array([place[r] for r in run_ids if r in place], dtype=np.int64)


def read_tasks(runs: "pd.DataFrame", *, uri: str) -> tuple[TaskFigures, tuple[str, ...]]:
    """Read ``tasks.parquet`` of many runs (from `load_runs`) in the store `uri`.

    The figures are of the runs that have the artifact, without verdicts where weights are random;
    a sentence says why others are without. Raises `UserError` if the store fails or an artifact is
    damaged.
    """
    with artifacts(runs, _ARTIFACT, uri=uri) as find:

        def read(run_id: str) -> "pa.Table | None":
            path = find(run_id)
            return None if path is None else _read(path, run_id)

        with ThreadPoolExecutor(_THREADS) as pool:
            found = dict(zip(runs["run_id"], pool.map(read, runs["run_id"]), strict=True))
    tables = [(run_id, table) for run_id, table in found.items() if table is not None]
    # Published figures never have them; a sentence on each would say nothing.
    printed = set(runs["run_id"][runs["tags.codejoule.published"].notna()])
    absent = [run_id for run_id, table in found.items() if table is None and run_id not in printed]
    random = set(runs["run_id"][runs["tags.codejoule.weights"] == "random"])
    figures = _figures(tables)
    figures.passed[[run_id in random for run_id in figures.run_ids]] = np.nan
    notes = []
    if absent:
        some = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
        count = "1 run has" if len(absent) == 1 else f"{len(absent)} runs have"
        notes.append(f"{count} no figures of single tasks (no {_ARTIFACT}): {some}.")
    return figures, tuple(notes)


def _read(path: Path, run_id: str) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            older = "block" not in file.schema_arrow.names
            # One thread per file: there are many files, and several are read at once.
            table = file.read(columns=_COLUMNS[:-1] if older else _COLUMNS, use_threads=False)
        return table.append_column("block", table["batch"]) if older else table
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} of run {run_id} is damaged: {error}") from error


def _figures(tables: "Sequence[tuple[str, pa.Table]]") -> TaskFigures:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not tables:
        empty = np.empty((0, 0))
        return TaskFigures(
            run_ids=(), task_ids=(), energy_j=empty, evaluation_j=empty, output_tokens=empty,
            latency_s=empty, passed=empty, order=empty, window=np.empty((0, 0), dtype=np.int64),
            domains={},
        )  # fmt: skip
    whole = pa.concat_tables([table for _, table in tables])
    run = np.repeat(np.arange(len(tables)), [len(table) for _, table in tables])
    encoded = whole["task_id"].combine_chunks().dictionary_encode()
    task_ids = encoded.dictionary.to_pylist()
    task = encoded.indices.to_numpy()
    shape = (len(tables), len(task_ids))
    cell = run * shape[1] + task
    samples = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)

    def column(name: str) -> NDArray[np.float64]:
        values = whole[name].cast(pa.float64()).to_numpy()
        return np.asarray(values, dtype=float)

    def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.bincount(cell, weights=values, minlength=samples.size).reshape(shape)
        return np.where(samples > 0, sums, np.nan)

    def first(values: NDArray[np.float64]) -> NDArray[np.float64]:
        least = np.full(samples.size, np.inf)
        np.minimum.at(least, cell, values)
        return np.where(samples > 0, least.reshape(shape), np.nan)

    verdict = whole["verdict"]
    passed = pc.cast(pc.equal(verdict, _PASS), pa.float64()).to_numpy()
    block, batch = column("block"), column("batch")
    window = first(np.where(np.isnan(block), batch, block))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = summed(np.asarray(passed, dtype=float)) / samples
    return TaskFigures(
        run_ids=tuple(run_id for run_id, _ in tables),
        task_ids=tuple(task_ids),
        energy_j=summed(column("energy_j")),
        evaluation_j=summed(column("evaluation_energy_j")),
        output_tokens=summed(column("output_tokens")),
        latency_s=summed(column("latency_s")),
        passed=share,
        order=first(column("order")),
        window=np.where(np.isnan(window), -1, window).astype(np.int64),
        domains=_domains(whole, task, len(task_ids)),
    )


def _domains(
    whole: "pa.Table", task: NDArray[np.int64], tasks: int
) -> dict[str, NDArray[np.bool_]]:
    _, first = np.unique(task, return_index=True)
    members: dict[str, NDArray[np.bool_]] = {}
    for i, names in enumerate(whole["domains"].take(first).to_pylist()):
        for name in names or ():
            members.setdefault(name, np.zeros(tasks, dtype=bool))[i] = True
    return dict(sorted(members.items()))
