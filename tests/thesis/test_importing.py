"""``codejoule thesis import`` into a real store."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from codejoule.analysis import comparable_groups, comparison_table, load_runs
from codejoule.cli import main


@pytest.fixture(scope="module")
def imported(
    tmp_path_factory: pytest.TempPathFactory, with_database: Callable[[Path], Path]
) -> Path:
    folder = with_database(tmp_path_factory.mktemp("tracking")) / "mlruns"
    where = [f"tracking.dir={folder}", "tracking.experiment=thesis"]
    assert main(["thesis", "import", *where]) == 0
    return folder


@pytest.mark.slow
def test_34_runs_are_there_and_a_second_import_by_its_older_name_adds_none(
    imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{imported}/mlflow.db"
    before = load_runs(uri, "thesis").frame
    assert len(before) == 34
    where = ["tracking.experiment=thesis", f"tracking.dir={imported}"]
    assert main(["import-thesis", *where, "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "0 published runs added to experiment 'thesis'" in out
    assert "34 were there" in out
    assert out.endswith(f"Written to {tmp_path}: pass_at_kwh.csv, reductions.csv, claims.csv\n")
    assert len(list(tmp_path.glob("*.csv"))) == 3
    after = load_runs(uri, "thesis").frame
    assert sorted(after["run_id"]) == sorted(before["run_id"])
    assert after["sweep"].nunique() == 1


def test_published_runs_say_what_they_are_and_where_they_come_from(imported: Path) -> None:
    frame = load_runs(f"sqlite:///{imported}/mlflow.db", "thesis").frame
    assert set(frame["tags.codejoule.published"]) == {"true"}
    assert set(frame["tags.codejoule.energy_source"]) == {"published"}
    assert set(frame["tags.codejoule.energy_scope"]) == {"gpu"}
    assert frame["tags.codejoule.source"].str.contains("Buis").all()
    assert set(frame["tags.codejoule.source_table"]) == {"5.18", "5.24", "5.29", "5.34", "5.40"}
    row = frame[
        (frame["params.model.name"] == "qwen_7b") & (frame["params.quant.name"] == "gptq4")
    ].iloc[0]
    assert row["metrics.energy_total_kwh"] == 0.30
    assert row["metrics.energy_gpu_net_j"] == pytest.approx(1.08e6)
    assert row["metrics.latency_s"] == pytest.approx(72.62 * 60)
    assert row["metrics.pass_at_1_per_kwh"] == 1.47
    assert "latency_s" in row["tags.codejoule.derived"]
    assert "pass_at_1_per_kwh" not in row["tags.codejoule.derived"]
    # What the thesis does not say is absent.
    for name in ("energy_evaluation_j", "idle_power_w", "ttft_s", "memory_peak_bytes"):
        assert f"metrics.{name}" not in frame.columns


def test_published_and_measured_runs_are_never_in_one_table(imported: Path) -> None:
    import pandas as pd

    frame = load_runs(f"sqlite:///{imported}/mlflow.db", "thesis").frame
    (group,) = comparable_groups(frame)
    assert "energy: published (gpu), on NVIDIA L40S" in group.title
    assert len(comparison_table(group.frame)) == 34
    measured = frame.head(1).assign(**{"tags.codejoule.energy_source": "nvml"})
    assert len(comparable_groups(pd.concat([frame, measured], ignore_index=True))) == 2


def test_what_the_figures_give_is_written(tmp_path: Path) -> None:
    assert main(["thesis", "claims", "--out", str(tmp_path)]) == 0
    rows = {
        path.stem: list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        for path in tmp_path.glob("*.csv")
    }
    assert {name: len(found) for name, found in rows.items()} == {
        "pass_at_kwh": 25, "reductions": 20, "claims": 55,
    }  # fmt: skip
    assert sum(row["on_front"] == "True" for row in rows["pass_at_kwh"]) == 10


def test_the_thesis_has_a_command_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["thesis", "tables", "--out", str(tmp_path)]) == 0
    *table, told = capsys.readouterr().out.splitlines()
    assert len(table) == 1 + 43
    assert told == f"Written to {tmp_path}: tables.csv, figure_checks.csv"
    lines = {path.name: path.read_text().splitlines() for path in tmp_path.glob("*.csv")}
    assert len(lines["tables.csv"]) == 1 + 43
    assert len(lines["figure_checks.csv"]) == 1 + 8
    assert main(["thesis", "claims"]) == 0
    printed = capsys.readouterr().out
    assert "Abstract: GPTQ-Int8 saves up to: 40 %" in printed
    assert "disagree in" in printed


def test_published_figures_are_analysed_without_figures_of_tasks(
    imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--tracking-uri", f"sqlite:///{imported}/mlflow.db", "--experiment", "thesis"]
    assert main(["analyze", *store, "--no-log", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "Take deepseek_coder_16b none b8: 2,513 J per correct program, in these runs" in said
    assert "no energy of single tasks" in said
