"""The showpiece's script, end to end with the bundled model in the place of all others."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "src" / "codejoule" / "models" / "starter" / "none"
DOUBLE = {
    "task_id": "HumanEval/0",
    "prompt": 'def double(x):\n    """Twice x."""\n',
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
    "entry_point": "double",
}


def call(out: Path, *options: str) -> str:
    command = [sys.executable, "benchmarks/showpiece.py", "--out", str(out), "--smoke", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_a_study_goes_on_where_the_last_call_ended_and_ends_with_every_cell(tmp_path: Path) -> None:
    humaneval = tmp_path / "humaneval.jsonl"
    humaneval.write_text(json.dumps(DOUBLE) + "\n", encoding="utf-8")
    real = ("--smollm", str(STARTER), "--humaneval", str(humaneval))
    planned = call(tmp_path / "out", "--plan", *real).splitlines()
    assert planned[0].split()[:5] == ["1", "grid", "starter", "none", "graph"]
    assert not (tmp_path / "out" / "cells.csv").exists()

    # Room for the first group of the plan, but for none with `generate`.
    said = call(tmp_path / "out", "--seconds", "45", *real)
    assert "left out, " in said
    before = rows(tmp_path / "out" / "cells.csv")
    assert {row["engine"] for row in before} == {"graph"}
    assert {row["status"] for row in before} == {"finished"}

    said = call(tmp_path / "out", *real)
    assert said.rstrip().endswith("0 groups are left")
    after = rows(tmp_path / "out" / "cells.csv")
    assert after[: len(before)] == before
    assert len({row["run_id"] for row in after}) == len(after)
    assert {row["status"] for row in after} == {"finished"}
    cells = [row for row in after if row["part"] == "grid"]
    assert len(cells) == 16
    assert all(float(row["energy_generation_j"]) > 0 for row in cells)
    # What is loaded serves all of a group's cells, however many calls they took.
    assert 6 <= sum(bool(row["energy_load_j"]) for row in cells) <= 8
    assert {row["suite"] for row in after} == {"bigcodebench_lengths", "humaneval", "starter_large"}
    tasks = pd.read_csv(tmp_path / "out" / "tasks.csv.gz")
    assert set(tasks["part"]) == {"smollm", "starter"}
    assert tasks[tasks["part"] == "smollm"]["sample"].tolist() == [0, 1, 2, 3, 4, 0]
    calls = rows(tmp_path / "out" / "calls.csv")
    assert [row["call"] for row in calls] == ["1", "2"]
    assert all(float(row["seconds"]) > 0 for row in calls)

    assert call(tmp_path / "out", "--plan", *real) == "0 groups, 0 cells, 0 s\n"
    again = call(tmp_path / "out", "--plan", "--part", "again")
    assert again.splitlines()[-1].startswith("4 groups")
