"""Files that a run leaves in the store: tables as Parquet, and power over time as a figure."""

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codejoule.common.packed import Packed
from codejoule.config import write_whole, writing_whole
from codejoule.domain import (
    TASK_COLUMNS,
    EnergyReading,
    EnergySource,
    PowerSample,
    TaskRecord,
)

if TYPE_CHECKING:
    import pyarrow as pa

_STRINGS = {"task_id", "finish_reason", "verdict", "verdict_reason", "verdict_plus", "device"}
_INTEGERS = {
    "sample", "order", "batch", "batch_size", "prompt_tokens", "output_tokens", "block",
    "thinking_tokens",
}  # fmt: skip


_GROUP_ROWS = 8192


def write_tasks_parquet(records: Iterable[TaskRecord], path: Path) -> None:
    """One row per record, in `TASK_COLUMNS`, with types that do not depend on the values. What is
    None or NaN in a record is null in the file."""
    _write(records, TASK_COLUMNS, path)


def read_tasks_parquet(path: Path) -> Sequence[TaskRecord]:
    """The records in ``tasks.parquet``; what is null is None."""
    import pyarrow.parquet as pq

    def records() -> Iterator[TaskRecord]:
        with pq.ParquetFile(path) as file:
            for group in file.iter_batches(_GROUP_ROWS):
                for row in group.to_pylist():
                    known = {name: row.get(name) for name in TASK_COLUMNS}
                    yield TaskRecord(**known | {"domains": tuple(row["domains"] or ())})

    return Packed(TaskRecord, records())


def write_power_parquet(samples: Iterable[PowerSample], path: Path) -> None:
    """Columns ``time_s`` [s since the epoch], ``device`` and ``power_w`` [W]."""
    _write(samples, ("time_s", "device", "power_w"), path)


def write_windows_parquet(readings: Iterable[EnergyReading], path: Path) -> None:
    """When each accounting window was open, in the order of ``batch`` of ``tasks.parquet``: columns
    ``start_s`` [s since the epoch], ``latency_s`` [s] and ``energy_j`` [J]."""
    _write(readings, ("start_s", "latency_s", "energy_j"), path)


def _write(rows: Iterable[object], columns: Sequence[str], path: Path) -> None:
    """A row group at a time, so that no more of it is in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    left = iter(rows)
    schema = pa.schema({name: _type(name) for name in columns})
    with writing_whole(path) as file, pq.ParquetWriter(file, schema) as writer:
        # The rows themselves are many times as large as their cells.
        while first := next(left, None):
            cells: dict[str, list[object]] = {name: [] for name in columns}
            for row in chain([first], islice(left, _GROUP_ROWS - 1)):
                for name in columns:
                    cells[name].append(_defined(getattr(row, name)))
            writer.write_table(pa.table(cells, schema=schema))


def _type(column: str) -> "pa.DataType":
    import pyarrow as pa

    if column in _STRINGS:
        return pa.string()
    if column in _INTEGERS:
        return pa.int64()
    return pa.list_(pa.string()) if column == "domains" else pa.float64()


def _defined(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and math.isnan(value) else value


def power_figure(samples: Sequence[PowerSample], path: Path, *, source: EnergySource) -> None:
    """Draw the power of each device over time; `path` ends in ``.svg`` or ``.png``. The title says
    where the figures come from. ValueError without samples."""
    from matplotlib.figure import Figure

    if not samples:
        raise ValueError("no power samples to draw")
    title = f"Power over time ({source.value})"
    if source is EnergySource.estimate:
        title = "Power over time (estimate: CPU time x assumed watts per core, not measured)"
    first_s = min(s.time_s for s in samples)
    by_device: dict[str, tuple[array[float], array[float]]] = {}
    for sample in samples:
        times_s, powers_w = by_device.setdefault(sample.device, (array("d"), array("d")))
        times_s.append(sample.time_s - first_s)
        powers_w.append(sample.power_w)
    # A Figure of its own draws without a display and without pyplot's global state.
    figure = Figure(figsize=(8, 3.2))
    # Fixed margins: to find the best ones, matplotlib draws everything once more.
    figure.subplots_adjust(left=0.085, right=0.985, top=0.9, bottom=0.155)
    axes = figure.add_subplot()
    for device, (times_s, powers_w) in sorted(by_device.items()):
        order = np.argsort(times_s, kind="stable")
        axes.plot(np.array(times_s)[order], np.array(powers_w)[order], label=device, lw=1)
    axes.set(xlabel="time [s]", ylabel="power [W]", title=title)
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    content = BytesIO()
    figure.savefig(content, format=path.suffix.removeprefix("."), dpi=120)
    write_whole(path, content.getvalue())
