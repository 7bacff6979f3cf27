"""Tables of a run as Parquet files."""

import math
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from codejoule.config import write_whole
from codejoule.domain import TASK_COLUMNS, TaskRecord
from codejoule.tracking.power import PowerSample

if TYPE_CHECKING:
    import pyarrow as pa

_STRINGS = {"task_id", "finish_reason", "verdict", "verdict_reason", "verdict_plus"}
_INTEGERS = {"sample", "order", "batch", "batch_size", "prompt_tokens", "output_tokens"}


def write_tasks_parquet(records: Iterable[TaskRecord], path: Path) -> None:
    """One row per record, in `TASK_COLUMNS`, with types that do not depend on the values.

    What is None or NaN in a record is null in the file.
    """
    import pyarrow as pa

    rows = list(records)
    columns = [[_defined(getattr(row, name)) for row in rows] for name in TASK_COLUMNS]
    schema = pa.schema([(name, _type(name)) for name in TASK_COLUMNS])
    arrays = [pa.array(c, type=f.type) for c, f in zip(columns, schema, strict=True)]
    _write(pa.Table.from_arrays(arrays, schema=schema), path)


def write_power_parquet(samples: Sequence[PowerSample], path: Path) -> None:
    """Columns ``time_s`` [s since the epoch], ``device`` and ``power_w`` [W]."""
    import pyarrow as pa

    table = pa.table(
        {
            "time_s": pa.array([s.time_s for s in samples], type=pa.float64()),
            "device": pa.array([s.device for s in samples], type=pa.string()),
            "power_w": pa.array([s.power_w for s in samples], type=pa.float64()),
        }
    )
    _write(table, path)


def _write(table: "pa.Table", path: Path) -> None:
    import pyarrow.parquet as pq

    content = BytesIO()
    pq.write_table(table, content)
    write_whole(path, content.getvalue())


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
