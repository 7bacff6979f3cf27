"""The presets expand to the configurations of the experiments they are named after."""

import csv
from itertools import product

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from codejoule.config.compose import register_schemas
from codejoule.config.schema import Dtype, Split
from codejoule.config.typed import to_experiment
from tests.config.test_compose import CONF

THESIS = CONF.parent / "tests" / "golden" / "thesis_results.csv"
SIZES = ("0_5b", "1_5b", "3b", "7b", "14b")
BASE = {(f"qwen_{size}_base", "none", "b1") for size in SIZES}
INSTRUCT = {(f"qwen_{size}", "none", "b1") for size in SIZES}
ARMS = {
    "thesis_model_size": BASE,
    "thesis_finetuning": BASE | INSTRUCT,
    "thesis_awq": INSTRUCT | {(model, "awq", batch) for model, _, batch in INSTRUCT},
    "thesis_gptq": INSTRUCT
    | {(model, quant, batch) for model, _, batch in INSTRUCT for quant in ("gptq8", "gptq4")},
}
BATCHES = {
    (model, "none", batch)
    for model in ("qwen_coder_7b", "llama_8b", "deepseek_coder_16b")
    for batch in ("b1", "b4", "b8")
}


def jobs(preset: str) -> set[tuple[str, str, str]]:
    """(model, quant, batch) of every job that the preset's sweep starts."""
    register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"+experiment={preset}"], return_hydra_config=True)
    params = {key: str(value) for key, value in config.hydra.sweeper.params.items()}
    assert config.hydra.mode.name == "MULTIRUN"
    parser = OverridesParser.create()
    swept = [
        list(override.sweep_string_iterator())
        for override in parser.parse_overrides([f"{key}={value}" for key, value in params.items()])
    ]
    found = [dict(zip(params, values, strict=True)) for values in product(*swept)]
    assert set(params) <= {"model", "quant", "batch"}
    chosen = {(job["model"], job.get("quant", "none"), job.get("batch", "b1")) for job in found}
    assert len(chosen) == len(found)
    return chosen


@pytest.mark.parametrize("preset", ARMS)
def test_thesis_preset_has_exactly_its_configurations(preset: str) -> None:
    assert jobs(preset) == ARMS[preset]


@pytest.mark.parametrize("preset", ["thesis_batch_size", "thesis_granularity"])
def test_batch_size_presets_have_the_same_nine_configurations(preset: str) -> None:
    assert jobs(preset) == BATCHES


def test_size_tuning_and_quantization_presets_share_twenty_five_configurations() -> None:
    assert len(set().union(*map(jobs, ARMS))) == 25


def test_thesis_lists_as_many_configurations() -> None:
    """Source: tests/golden/thesis_results.csv, tables 5.24 to 5.40 of the thesis."""
    with THESIS.open(encoding="utf-8") as file:
        assert len({row["model"] for row in csv.DictReader(file)}) == 25


@pytest.mark.parametrize("preset", ARMS)
def test_every_arm_of_a_comparison_runs_in_the_same_dtype(preset: str) -> None:
    """The preset's dtype survives the choice of a model."""
    model, quant, batch = max(jobs(preset))
    register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        chosen = [f"+experiment={preset}", f"model={model}", f"quant={quant}", f"batch={batch}"]
        experiment = to_experiment(compose("config", chosen))
    assert experiment.model.dtype is Dtype.float16
    assert (experiment.suite.name, experiment.suite.split) == ("bigcodebench", Split.complete)
