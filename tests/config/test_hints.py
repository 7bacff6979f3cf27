"""What a newcomer types first and is not quite right gets the words that help."""

import pytest
from hydra import compose, initialize_config_dir

from codejoule.config import ConfigError, conf_folder
from codejoule.config.compose import compose_experiment, register_schemas
from codejoule.config.explain import explain
from codejoule.config.groups import in_order

HINTS = {
    "batch=2": "batch=2: a choice is a name; choose one of b1, b4, b8, b16, b32, b64, b128, or any size: batch.size=2",
    "batch=b12": "batch=b12: no such choice; choose one of b1, b4, b8, b16, b32, b64, b128, or any size: batch.size=12",
    "quant=int4": "no such choice; with 4 bits there are awq, bnb_nf4, gguf, gptq4, mxfp4, nvfp4, w4a16; choose one of ",
    "quant=4": "quant=4: a choice is a name; with 4 bits there are awq, bnb_nf4, gguf, gptq4, mxfp4, nvfp4, w4a16; ",
    "quant=gptq": "did you mean gptq4 or gptq8? ",
    "quant=GPTQ4": "did you mean gptq4? ",
    "quant=bf16": "unquantized weights are quant=none, their numbers' format is model.dtype; ",
    "gpu=4090": "did you mean rtx_4090? ",
    "gpu=A100": "did you mean a100? ",
    "suite=human-eval": "did you mean humaneval? ",
    "engine=vlm": "did you mean vllm? ",
    "suite.path=/nowhere.jsonl": "suite.path=/nowhere.jsonl: no such file or folder",
    "quant.bits=4": "quant=none has no bits; leave it null, or choose another quant",
    "models=qwen_7b": "no such key; did you mean model? ",
}


@pytest.mark.parametrize("override", HINTS)
def test_a_near_miss_is_told_what_was_meant(override: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose_experiment([override])
    assert HINTS[override] in str(error.value)


def test_several_values_without_m_are_told_the_whole_command() -> None:
    register_schemas()
    arguments = ["--config-dir", "my conf", "--cfg", "job", "model=a,b", "suite.limit=2"]
    with (
        initialize_config_dir(str(conf_folder()), version_base="1.3"),
        pytest.raises(Exception, match="Ambiguous value") as error,
    ):
        compose("config", ["model=a,b", "suite.limit=2"])
    said = explain(error.value, arguments)
    command = "codejoule run -m --config-dir 'my conf' model=a,b suite.limit=2"
    assert said == f"model=a,b: several values are a sweep, which needs -m: {command}"


def test_numbers_in_names_go_by_size() -> None:
    assert in_order(["b16", "b4", "b1", "x"]) == ["b1", "b4", "b16", "x"]
    assert in_order({"qwen_14b", "qwen_7b_base", "qwen_7b"}) == [
        "qwen_7b", "qwen_7b_base", "qwen_14b"
    ]  # fmt: skip


def test_help_lists_what_can_be_chosen_and_nothing_else() -> None:
    register_schemas()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        told = compose("config", return_hydra_config=True).hydra.help.template
    groups = [line.partition(":")[0] for line in told.splitlines() if ": " in line]
    assert groups[groups.index("model") :][:10] == [
        "model", "quant", "batch", "generation", "engine", "suite", "gpu", "meter", "evaluator",
        "tracking",
    ]  # fmt: skip
    assert "+experiment" in groups and not {"schema", "base"} & set(groups)
    assert "batch: b1, b4, b8, b16, b32, b64, b128\n" in told
    assert "model=/path/to/folder, model=org/name, model=file.gguf" in told
