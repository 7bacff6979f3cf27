"""The pages of results: made from the data set, and from nothing else."""

import hashlib
import sys
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest

from tests.tools.results_study import write_study
from tools.results.conclusions import conclusions
from tools.results.data import CALLS, CELLS, DATA, SUMS, TASKS, collect, load
from tools.results.pages import FIGURE, RESULTS, figures, pages

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of made-up figures."""
    base = tmp_path_factory.mktemp("results")
    write_study(base / "study")
    collect(base / "study", base / DATA)
    return base


def test_the_committed_pages_are_what_the_committed_data_set_gives(tmp_path: Path) -> None:
    data = load(RESULTS / DATA)
    for name, text in pages(data).items():
        assert (RESULTS / name).read_text(encoding="utf-8") == text, (
            f"{name}: run python -m tools.results"
        )
    figures(data, tmp_path)
    assert (RESULTS / FIGURE).exists() == (tmp_path / FIGURE).exists()


def test_the_committed_data_set_has_the_committed_checksums_and_one_content_in_both_formats() -> (
    None
):
    folder = RESULTS / DATA
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        checksum, name = line.split()
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == checksum, name
    for name, schema in (("cells", CELLS), ("calls", CALLS)):
        table = pd.read_parquet(folder / f"{name}.parquet")
        assert list(table) == list(schema)
        text = pd.read_csv(folder / f"{name}.csv")
        text = text.astype(table.dtypes.to_dict())
        pd.testing.assert_frame_equal(text, table)


def test_the_schema_names_the_columns_that_the_showpiece_leaves() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import showpiece
    finally:
        sys.path.pop(0)
    assert set(showpiece.COLUMNS) == set(CELLS)
    assert {"run_id", *showpiece.KEYS, *showpiece.TASKS} == set(TASKS)
    assert {field.name for field in fields(showpiece.Cell)} >= set(showpiece.KEYS)


def test_each_conclusion_has_a_verdict_for_each_setting_that_was_measured(folder: Path) -> None:
    found = {own.name: own for own in conclusions(load(folder / DATA))}
    words = {name: [word for word, _ in own.verdicts] for name, own in found.items()}
    assert words == {
        "Task nature": ["holds"],
        "Batch size": ["does not hold"],
        "Model size": ["does not hold", "holds", "holds"],
        "Fine-tuning": ["does not hold"] * 3,
        "AWQ": ["does not hold", "holds with another size", "does not hold"],
        "GPTQ-Int8": ["does not hold", "holds with another size", "does not hold"],
        "GPTQ-Int4": ["does not hold", "holds with another size", "does not hold"],
        "Llama against DeepSeek": ["not measured yet"] * 3,
    }
    assert found["AWQ"].verdict == "depends on engine and batch"
    assert "45 % less" in found["AWQ"].verdicts[1][1]


def test_what_was_not_measured_is_said_to_be_so(tmp_path: Path) -> None:
    write_study(tmp_path / "study", again=False)
    cells = pd.read_csv(tmp_path / "study" / "cells.csv")
    cells[cells["engine"] == "vllm"].to_csv(tmp_path / "study" / "cells.csv", index=False)
    (tmp_path / "study" / "starter.txt").unlink()
    collect(tmp_path / "study", tmp_path / DATA)
    page = pages(load(tmp_path / DATA))["index.md"]
    assert "- `generate` at batch 1: not measured yet\n" in page
    assert "Not measured yet: `generate` and vLLM with one and the same model." in page
    assert "Not measured yet: a second run of a part of it." in page
    assert "Not measured yet: the bundled model, resolved." in page


@pytest.mark.slow
def test_the_pages_change_with_the_data(folder: Path, tmp_path: Path) -> None:
    page = pages(load(folder / DATA))["index.md"]
    write_study(tmp_path / "study")
    cells = pd.read_csv(tmp_path / "study" / "cells.csv")
    awq = cells["quant"] == "awq"
    cells.loc[awq, "energy_generation_j"] *= 0.6
    cells.to_csv(tmp_path / "study" / "cells.csv", index=False)
    collect(tmp_path / "study", tmp_path / DATA)
    other = pages(load(tmp_path / DATA))["index.md"]
    assert "`vllm` at batch 1, 7B: 67 % less [67, 67] (thesis: 67 % less" in other
    assert other != page
    figures(load(tmp_path / DATA), tmp_path)
    assert "<svg" in (tmp_path / FIGURE).read_text(encoding="utf-8")


def test_a_column_without_a_meaning_is_refused(tmp_path: Path) -> None:
    write_study(tmp_path / "study")
    cells = pd.read_csv(tmp_path / "study" / "cells.csv").assign(mood="good")
    cells.to_csv(tmp_path / "study" / "cells.csv", index=False)
    with pytest.raises(ValueError, match="cells: the schema has no mood"):
        collect(tmp_path / "study", tmp_path / DATA)
