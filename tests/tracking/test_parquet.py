"""Tables and figures of a run."""

import math
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codejoule.domain import (
    TASK_COLUMNS,
    EnergyReading,
    EnergyScope,
    EnergySource,
    PowerSample,
    TaskRecord,
)
from codejoule.tracking import (
    power_figure,
    write_power_parquet,
    write_tasks_parquet,
    write_windows_parquet,
)

RECORD = TaskRecord(
    task_id="a", sample=0, order=0, batch=0, batch_size=1, prompt_tokens=10, output_tokens=5,
    finish_reason="eos", energy_j=1.5, energy_net_j=None, batch_energy_j=1.5, latency_s=0.5,
    ttft_s=None, verdict=None, verdict_reason=None, evaluation_s=None, evaluation_cpu_s=None,
    evaluation_energy_j=None, domains=("Time", "General"),
)  # fmt: skip

SAMPLES = [
    PowerSample(time_s=100.0 + 0.1 * i, device=device, power_w=w + i)
    for i in range(20)
    for device, w in (("gpu:0", 80.0), ("cpu:0", 30.0))
]


def test_tasks_parquet_has_the_columns_of_the_contract_in_order(tmp_path):
    write_tasks_parquet([RECORD, replace(RECORD, task_id="b", verdict="pass")], tmp_path / "t")
    table = pq.read_table(tmp_path / "t")
    assert tuple(table.column_names) == TASK_COLUMNS
    assert table.column("verdict").to_pylist() == [None, "pass"]
    assert table.column("domains").to_pylist() == [["Time", "General"]] * 2
    assert table.column("energy_j").to_pylist() == [1.5, 1.5]


def test_types_do_not_depend_on_the_values(tmp_path):
    # A run without evaluator and energy has only nulls there; whole numbers stay doubles.
    write_tasks_parquet([replace(RECORD, energy_j=None, latency_s=1)], tmp_path / "a")
    write_tasks_parquet([], tmp_path / "b")
    first, second = pq.read_schema(tmp_path / "a"), pq.read_schema(tmp_path / "b")
    assert first.equals(second)
    assert first.field("energy_j").type == pa.float64()
    assert first.field("latency_s").type == pa.float64()
    assert first.field("order").type == pa.int64()
    assert first.field("verdict_reason").type == pa.string()
    assert first.field("domains").type == pa.list_(pa.string())


def test_undefined_energy_is_null_however_it_came(tmp_path):
    write_tasks_parquet([replace(RECORD, energy_j=math.nan)], tmp_path / "t")
    assert pq.read_table(tmp_path / "t").column("energy_j").null_count == 1


def test_power_parquet_keeps_every_sample(tmp_path):
    write_power_parquet(SAMPLES, tmp_path / "power.parquet")
    rows = pq.read_table(tmp_path / "power.parquet").to_pylist()
    assert rows[0] == {"time_s": 100.0, "device": "gpu:0", "power_w": 80.0}
    assert len(rows) == 40
    write_power_parquet([], tmp_path / "empty.parquet")
    assert pq.read_table(tmp_path / "empty.parquet").num_rows == 0


def test_windows_parquet_says_when_each_was_open(tmp_path):
    reading = EnergyReading(
        name="batch", source=EnergySource.nvml, scope=EnergyScope.gpu, start_s=100.0,
        latency_s=2.0, energy_j=math.nan,
    )  # fmt: skip
    write_windows_parquet([reading, replace(reading, energy_j=7.0)], tmp_path / "w")
    assert pq.read_table(tmp_path / "w").to_pylist() == [
        {"start_s": 100.0, "latency_s": 2.0, "energy_j": None},
        {"start_s": 100.0, "latency_s": 2.0, "energy_j": 7.0},
    ]


def test_power_figure_marks_an_estimate(tmp_path):
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none"}):
        power_figure(SAMPLES, tmp_path / "e.svg", source=EnergySource.estimate)
        power_figure(SAMPLES, tmp_path / "n.svg", source=EnergySource.nvml)
    assert "estimate" in (tmp_path / "e.svg").read_text()
    measured = (tmp_path / "n.svg").read_text()
    assert "estimate" not in measured
    assert "gpu:0" in measured
    power_figure(SAMPLES, tmp_path / "n.png", source=EnergySource.nvml)
    assert (tmp_path / "n.png").read_bytes().startswith(b"\x89PNG")


def test_no_samples_no_figure(tmp_path):
    with pytest.raises(ValueError, match="no power samples"):
        power_figure([], tmp_path / "f.svg", source=EnergySource.nvml)
