"""Columns that nothing reads."""

import json
from pathlib import Path
from typing import Any

import pytest

from codejoule.config import ConfigError
from codejoule.config.schema import SuiteConfig
from codejoule.domain import Suite
from codejoule.suites import load_suite

DATA = Path(__file__).parent / "data"
SCHEMAS = ("bigcodebench", "humaneval", "humaneval_plus", "mbpp", "mbpp_plus")


def load(tmp_path: Path, schema: str, **cells: Any) -> Suite:
    row = json.loads((DATA / f"{schema}.jsonl").read_text().splitlines()[0]) | cells
    (tmp_path / "own.jsonl").write_text(json.dumps(row) + "\n")
    return load_suite(SuiteConfig(name="own", path=str(tmp_path / "own.jsonl"), format=schema))


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("private_test_cases", "[[1], [2]]"),
        ("hidden_tests", ["assert f() == 1"]),
        ("generatedTests", ["assert f() == 1"]),
        ("expected_output", "5"),
        ("input_output", {"inputs": ["1"], "outputs": ["2"]}),
        ("extra_input", [[1]]),
        ("assertions", "assert f() == 1"),
        ("rtol", 1e-3),
        ("time_limit", 3),
        ("timeout", 3),
        ("checker", "def check(a, b): ..."),
        ("setup_code", "import math"),
    ],
)
@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_column_that_may_decide_a_verdict_is_refused(
    tmp_path: Path, schema: str, column: str, cell: Any
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, schema, **{column: cell})
    said = str(caught.value)
    assert f"own.jsonl, line 1: column {column} may hold what decides a verdict" in said
    assert f"suite.format={schema} does not read it" in said
    assert f"call it _{column} or leave it out" in said


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("difficulty", "hard"),
        ("source_url", "https://example.org/contest"),
        ("test_count", 12),
        ("input_tokens", 345),
        ("latest", "a"),
        ("contested", "yes"),
        ("_hidden_tests", ["assert f() == 1"]),
        ("expected_output", ""),
        ("extra_input", []),
        ("assertions", None),
        ("timeout", None),
    ],
)
@pytest.mark.parametrize("schema", SCHEMAS)
def test_columns_of_ones_own_and_empty_ones_are_let_be(
    tmp_path: Path, schema: str, column: str, cell: Any
) -> None:
    assert load(tmp_path, schema, **{column: cell}).tasks == load(tmp_path, schema).tasks


@pytest.mark.parametrize(
    ("schema", "file"),
    [("humaneval", "humaneval_plus"), ("mbpp", "mbpp_plus_hub")],
)
def test_the_schema_that_reads_the_column_is_named(schema: str, file: str) -> None:
    better = file.removesuffix("_hub")
    with pytest.raises(ConfigError, match=f"suite.format={better} reads it"):
        load_suite(SuiteConfig(name="own", path=str(DATA / f"{file}.jsonl"), format=schema))
