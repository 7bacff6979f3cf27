from pathlib import Path
from typing import Any

import pytest
import yaml

from codejoule.config.schema import Method, QuantConfig
from codejoule.models.declared import input_widths, with_group_size

# The largest that divides every layer's inputs: 4864 = 38 x 128, 10944 = 171 x 64, 2880 = 45 x 64.
GROUP_SIZES = {"deepseek_coder_16b": 64, "gpt_oss_20b": 64}
CONF = Path(__file__).parents[2] / "conf"
# Parameters as the hub counts them in the published safetensors files (of gpt-oss-20b, which is
# published in MXFP4: as its authors count them, arXiv:2508.10925: 20.91 B, 3.61 B active).
PARAMETERS = {
    "qwen_0_5b": 494_032_768,
    "qwen_1_5b": 1_543_714_304,
    "qwen_3b": 3_085_938_688,
    "qwen_7b": 7_615_616_512,
    "qwen_14b": 14_770_033_664,
    "qwen_0_5b_base": 494_032_768,
    "qwen_1_5b_base": 1_543_714_304,
    "qwen_3b_base": 3_085_938_688,
    "qwen_7b_base": 7_615_616_512,
    "qwen_14b_base": 14_770_033_664,
    "qwen_coder_7b": 7_615_616_512,
    "qwen_coder_0_5b": 494_032_768,
    "qwen_coder_1_5b": 1_543_714_304,
    "qwen_coder_3b": 3_085_938_688,
    "qwen_coder_14b": 14_770_033_664,
    "qwen_coder_32b": 32_763_876_352,
    "qwen3_4b": 4_022_468_096,
    "qwen3_8b": 8_190_735_360,
    "qwen3_14b": 14_768_307_200,
    "qwen3_coder_30b": 30_532_122_624,
    "gpt_oss_20b": 20_914_757_184,
    "llama_1b": 1_235_814_400,
    "llama_3b": 3_212_749_824,
    "llama_8b": 8_030_261_248,
    "deepseek_coder_16b": 15_706_484_224,
}


def read(group: str, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = {}
    for folder, stem in (("base", group), (group, name)):
        loaded |= yaml.safe_load((CONF / folder / f"{stem}.yaml").read_text())
    return loaded


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def test_every_model_of_the_design_has_a_file() -> None:
    assert names("model") == sorted([*PARAMETERS, "starter"])
    extras = ["bnb_int8", "bnb_nf4", "fp8", "torchao_int8", "gguf"]
    extras += ["fp8_block", "fp8_dynamic", "w4a16", "w8a8", "mxfp4", "nvfp4"]
    assert names("quant") == sorted(["none", "gptq8", "gptq4", "awq", *extras])


@pytest.mark.parametrize("group", ["model", "quant", "engine"])
def test_every_file_is_named_after_what_it_configures(group: str) -> None:
    for name in names(group):
        assert read(group, name)["name"] == name


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_each_architecture_has_the_published_number_of_parameters(name: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = read("model", name)["architecture"]
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert type(model).__name__ == fields["architectures"][0]
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    widths = set(input_widths(read("model", name)["architecture"]).values())
    inputs = {
        module.in_features
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and ".layers." in path
    }
    assert inputs <= widths
    quant = QuantConfig(name="gptq4", method=Method.gptq, bits=4)
    size = with_group_size(quant, read("model", name)["architecture"]).group_size
    assert size == GROUP_SIZES.get(name, 128)


def test_published_quantizations_belong_to_the_model_that_names_them() -> None:
    for name in PARAMETERS:
        config = read("model", name)
        for quant, repository in config["quantized"].items():
            assert repository.startswith(config["id"])
            assert quant in names("quant")


def test_only_llama_is_gated() -> None:
    gated = [name for name in PARAMETERS if read("model", name)["gated"]]
    assert gated == ["llama_1b", "llama_3b", "llama_8b"]
