"""``codejoule export``: what a store measured, for others, and back again."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from codejoule.analysis import load_runs
from codejoule.cli import main
from codejoule.config.schema import TrackingConfig
from codejoule.published import COLUMNS, WRITERS, read_figures
from codejoule.tracking import prepare_store
from tests.analysis.simulated import write_run


@pytest.fixture(scope="module")
def measured(
    tmp_path_factory: pytest.TempPathFactory, with_database: Callable[[Path], Path]
) -> tuple[Path, str]:
    """Two quantizations at two batches on one card, one run of random weights, one repeat."""
    folder = with_database(tmp_path_factory.mktemp("exported"))
    store = prepare_store(TrackingConfig(experiment="own", dir=f"{folder}/mlruns"))
    tags = {"codejoule.dtype": "bfloat16", "codejoule.validity": "ok"}
    for quant, batch, repeat, more in (
        ("none", 1, 1, {}), ("none", 1, 2, {}), ("none", 8, 1, {}), ("gptq4", 1, 1, {}),
        ("gptq4", 8, 1, {"codejoule.gpu": "2 x NVIDIA L40S"}),
        ("none", 8, 1, {"codejoule.weights": "random", "codejoule.length": "fixed"}),
    ):  # fmt: skip
        write_run(
            store, folder, quant=quant, batch=batch, repeat=repeat, tags=tags | more,
            energy_j=np.full(20, 30.0 / batch + repeat), passed=np.arange(20) < 12,
        )  # fmt: skip
    return folder, store.uri


def export(uri: str, file: Path, *more: str, experiment: str = "own") -> Path:
    where = ["--tracking-uri", uri, "--experiment", experiment]
    assert main(["export", str(file), *where, *more]) == 0
    return file


def test_a_row_per_configuration_has_what_the_runs_say(
    measured: tuple[Path, str], tmp_path: Path
) -> None:
    _, uri = measured
    layout, reading = read_figures(export(uri, tmp_path / "own.json", "--source", "our paper"))
    assert layout.name == "table"
    assert len(reading.figures) == 5
    twice = next(f for f in reading.figures if f.runs == 2)
    tokens = sum(20 + i for i in range(20))
    assert twice.energy_per_output_token_j == pytest.approx((20 * 31 + 20 * 32) / 2 / tokens)
    assert (twice.model, twice.quantization, twice.batch) == ("qwen_7b", "none", 1)
    assert (twice.card, twice.cards, twice.tasks) == ("NVIDIA L40S", 1, 20)
    assert (twice.pass_at_1, twice.prompt_tokens) == (0.6, 10)
    assert twice.output_tokens == pytest.approx(tokens / 20)
    assert twice.method == "NVML's energy counter, scope gpu, generation with its prefill"
    assert (twice.source, twice.validity, twice.dtype) == ("our paper", "ok", "bfloat16")
    assert len(twice.date) == 10
    two = next(f for f in reading.figures if f.cards == 2)
    assert two.card == "NVIDIA L40S"
    random = next(f for f in reading.figures if f.weights == "random")
    assert (random.length, random.pass_at_1) == ("fixed", None)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["csv", "json"])
def test_what_is_exported_imported_and_exported_again_is_the_same(
    measured: tuple[Path, str], tmp_path: Path, ending: str
) -> None:
    folder, uri = measured
    first = export(uri, tmp_path / f"own.{ending}")
    name = f"back-{ending}"
    where = [f"tracking.dir={folder}/mlruns", f"tracking.experiment={name}"]
    assert main(["import-published", str(first), *where]) == 0
    again = export(uri, tmp_path / f"again.{ending}", "--published", experiment=name)
    assert sorted(f.as_text() for f in read_figures(again)[1].figures) == sorted(
        f.as_text() for f in read_figures(first)[1].figures
    )
    back = load_runs(uri, name).frame
    own = load_runs(uri, "own").frame
    assert set(back["metrics.energy_per_output_token_j"].round(9)) == set(
        own.groupby(["params.quant.name", "params.batch.size", "tags.codejoule.weights"])[
            "metrics.energy_per_output_token_j"
        ].mean().round(9)
    )  # fmt: skip


def test_both_forms_state_the_version_of_their_schema(
    measured: tuple[Path, str], tmp_path: Path
) -> None:
    _, uri = measured
    head, row, *_ = export(uri, tmp_path / "own.csv").read_text().splitlines()
    assert head.startswith("schema_version,model,card,engine,quantization,batch,")
    assert set(head.split(",")[1:]) <= set(COLUMNS)
    assert row.startswith("1,")
    assert json.loads(export(uri, tmp_path / "own.json").read_text())["schema_version"] == 1


def test_an_energy_card_has_figures_method_device_validity_date_and_limits(
    measured: tuple[Path, str], tmp_path: Path
) -> None:
    _, uri = measured
    where = "tags.`codejoule.weights` = 'hub'"
    card = export(uri, tmp_path / "ENERGY.md", "--where", where).read_text()
    assert card.startswith("# Energy card: qwen_7b\n")
    assert "Least energy of generation per correct program: " in card
    assert "| quantization | engine | batch | settings | J per output token |" in card
    assert "0.600 [0.39, 0.78]" in card
    assert "| ok |" in card
    for said in (
        "- Method: NVML's energy counter", "- Card: NVIDIA L40S, 2 x NVIDIA L40S",
        "- Tasks: mine (20 tasks)", "- Measured: 20", "- Schema version: 1",
    ):  # fmt: skip
        assert said in card
    assert "Weights are random" not in card


def test_what_cannot_be_exported_is_said(
    measured: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, uri = measured
    where = ["--tracking-uri", uri, "--experiment", "own"]
    assert main(["export", str(tmp_path / "own.xlsx"), *where]) == 2
    assert f"choose a name that ends in {', '.join(WRITERS)}" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "own.csv"), *where, "--published"]) == 2
    assert "has no figures that `codejoule import-published` brought" in capsys.readouterr().err
