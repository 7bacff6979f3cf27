"""Formats that vLLM alone computes with: what their checkpoints declare, and who refuses them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from codejoule.config import ConfigError, UserError, conf_folder
from codejoule.config.schema import Method, ModelConfig, QuantConfig, Weights
from codejoule.config.typed import read_choice
from codejoule.domain import METHODS, Architecture, Quantization
from codejoule.domain.engines import engines_for
from codejoule.domain.quantization import VLLM
from codejoule.estimate import weight_bytes
from codejoule.models import (
    check_capability,
    check_model_config,
    locate_checkpoint,
    locate_served,
    prepare_libraries,
)
from codejoule.models.declared import declared_quantization
from codejoule.models.folder import decoder_config
from tests.models.conftest import TINY

ONLY_VLLM = [name for name, facts in METHODS.items() if facts.loaders == (VLLM,)]
INT4 = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 64}
INT8 = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
FP8 = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel"}
FP4 = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}


def compressed(weights: dict[str, Any], inputs: dict[str, Any] | None, **rest: Any) -> Any:
    """A ``quantization_config`` as LLM Compressor writes it."""
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    named = {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}
    return named | {"ignore": ["lm_head", "re:.*mlp.gate$"]} | rest


BLOCK = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
PUBLISHED: dict[str, tuple[Any, tuple[str, int, int | None, bool | None]]] = {
    "w4a16": (compressed(INT4, None), ("w4a16", 4, 64, True)),
    "with zero points": (compressed(INT4 | {"symmetric": False}, None), ("w4a16", 4, 64, False)),
    "w8a8": (compressed(INT8, INT8), ("w8a8", 8, -1, True)),
    "fp8_dynamic": (compressed(FP8, FP8), ("fp8_dynamic", 8, -1, True)),
    "nvfp4": (compressed(FP4, FP4), ("nvfp4", 4, 16, True)),
    "modelopt": ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, ("nvfp4", 4, 16, None)),
    "fp8_block": (BLOCK, ("fp8_block", 8, 128, None)),
    "mxfp4": ({"quant_method": "mxfp4"}, ("mxfp4", 4, 32, None)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_format_is_known_by_what_its_checkpoint_declares(name: str) -> None:
    fields, meant = PUBLISHED[name]
    found = declared_quantization(TINY | {"quantization_config": fields})
    assert found is not None
    assert (found.method, found.bits, found.group_size, found.sym) == meant


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (BLOCK | {"weight_block_size": [64, 64]}, "only blocks of .128, 128. with dynamic inputs"),
        (BLOCK | {"activation_scheme": "static"}, "activation_scheme=static: only blocks"),
        (compressed(INT8 | {"strategy": "tensor"}, INT8), "strategy='tensor'"),
        (compressed(INT8, INT8, kv_cache_scheme={"num_bits": 8}), "kv_cache_scheme: scales for"),
    ],
)
def test_what_is_not_understood_is_refused(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        declared_quantization(TINY | {"quantization_config": fields})


def test_a_scheme_of_which_nothing_is_known_is_another_method() -> None:
    fields = compressed(INT8, None)  # int8 weights, 16-bit inputs
    found = declared_quantization(TINY | {"quantization_config": fields})
    assert found is not None and str(found) == "compressed-tensors"


def test_a_checkpoint_of_another_format_than_asked_is_refused(tmp_path: Path) -> None:
    fields, _ = PUBLISHED["w8a8"]
    (tmp_path / "config.json").write_text(json.dumps(TINY | {"quantization_config": fields}))
    model = ModelConfig(name="mine", weights=Weights.local, path=str(tmp_path))
    asked = preset("fp8_dynamic")
    with pytest.raises(ConfigError, match="method: asked fp8_dynamic, the checkpoint has w8a8"):
        check_model_config(model, asked)
    check_model_config(model, preset("w8a8"))
    with pytest.raises(
        ConfigError, match=r"quant=none with .* its weights are quantized with w8a8"
    ):
        check_model_config(model, QuantConfig(name="none"))


@pytest.mark.parametrize("method", ONLY_VLLM)
def test_transformers_is_never_given_what_it_would_unpack(method: str) -> None:
    with pytest.raises(UserError, match=f"{method} weights as they are stored; choose engine=vllm"):
        prepare_libraries(ModelConfig(name="m", id="m/m"), preset(method), device="cpu")


@pytest.mark.parametrize("method", ONLY_VLLM)
def test_what_nobody_here_can_make_is_asked_for_as_a_checkpoint(
    method: str, tmp_path: Path
) -> None:
    on_file = ModelConfig(name="m", id="m/m", architecture=dict(TINY))
    with pytest.raises(ConfigError, match="such weights are not made here, and no checkpoint"):
        check_model_config(on_file, preset(method))
    check_model_config(
        ModelConfig(name="m", id="m/m", architecture=dict(TINY), quantized={method: "m/m-q"}),
        preset(method),
    )
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    plain = ModelConfig(name="mine", weights=Weights.local, path=str(tmp_path))
    with pytest.raises(ConfigError, match="such weights are not made here"):
        check_model_config(plain, preset(method))


def test_a_card_without_the_format_is_told_which_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    for name in ("fp8_block", "fp8_dynamic", "mxfp4", "w4a16", "w8a8"):
        check_capability(preset(name), "cuda")
    with pytest.raises(UserError, match=r"10\.0 or newer \(NVIDIA Blackwell\)\. .*w4a16"):
        check_capability(preset("nvfp4"), "cuda")


def test_gpt_oss_takes_the_bytes_that_its_checkpoint_on_the_hub_has() -> None:
    # metadata.total_size of model.safetensors.index.json in openai/gpt-oss-20b.
    found = weight_bytes(
        architecture_of("gpt_oss_20b"),
        Quantization(method="mxfp4", bits=4, group_size=32),
        dtype="bfloat16",
    )
    assert found.total_bytes == 13_761_264_768


def test_vllm_s_fp8_quantizes_experts_and_leaves_routers() -> None:
    qwen = architecture_of("qwen3_coder_30b")
    fp8 = weight_bytes(qwen, Quantization(method="fp8", bits=8, group_size=-1), dtype="bfloat16")
    plain = weight_bytes(qwen, Quantization(), dtype="bfloat16")
    assert fp8.quantized_bytes == 30_532_122_624 - fp8.unquantized_bytes // 2
    assert 0.51 < fp8.total_bytes / plain.total_bytes < 0.52


def test_experts_with_biases_run_unquantized_or_in_mxfp4() -> None:
    oss = ModelConfig(
        name="gpt_oss_20b", weights=Weights.random, architecture=fields("gpt_oss_20b")
    )
    for name in ("none", "mxfp4"):
        check_model_config(oss, preset(name))
    with pytest.raises(ConfigError, match="gptq knows none; use quant=mxfp4"):
        check_model_config(oss, preset("gptq4"))


@pytest.mark.parametrize("place", ["text_config", None])
def test_linear_attention_is_refused_with_a_sentence(place: str | None, tmp_path: Path) -> None:
    hybrid = {"layer_types": ["linear_attention", "full_attention"]}
    config = TINY | {"model_type": "qwen3_5_moe"} | ({place: hybrid} if place else hybrid)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError) as caught:
        decoder_config(tmp_path)
    assert f"{tmp_path}: model_type=qwen3_5_moe: some of its layers have linear" in str(
        caught.value
    )
    assert "measure that with engine=server" in str(caught.value)


def test_an_encoder_is_refused_with_what_it_would_take(tmp_path: Path) -> None:
    # As Salesforce/codet5p-770m-py has it.
    t5 = {"model_type": "t5", "is_encoder_decoder": True, "d_model": 1024, "num_layers": 24}
    (tmp_path / "config.json").write_text(json.dumps(t5))
    told = r"model_type=t5: it has an encoder and a decoder.*keys and values of cross-attention"
    with pytest.raises(ConfigError, match=told):
        decoder_config(tmp_path)
    for model in (
        ModelConfig(name="t5", weights=Weights.local, path=str(tmp_path)),
        ModelConfig(name="t5", weights=Weights.random, architecture=t5),
    ):
        with pytest.raises(ConfigError, match=told):
            check_model_config(model, preset("none"))
    with pytest.raises(ValueError, match=told):
        Architecture.from_config(t5)


def test_what_a_server_runs_is_its_own_affair(tmp_path: Path) -> None:
    hybrid = {"model_type": "qwen3_next", "layer_types": ["linear_attention", "full_attention"]}
    (tmp_path / "config.json").write_text(json.dumps(hybrid))
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    model = ModelConfig(name="own", weights=Weights.local, path=str(tmp_path))
    with pytest.raises(ConfigError, match=r"model_type=qwen3_next: .* linear attention"):
        locate_checkpoint(model, preset("none"), cache_dir=tmp_path)
    assert locate_served(model, preset("w4a16"), cache_dir=tmp_path).path == tmp_path


def test_gguf_is_left_to_a_server(tmp_path: Path) -> None:
    """transformers keeps the blocks of none of the families here; where that changes, so must
    `METHODS`."""
    from transformers.integrations.gguf.gguf_conversion_mapping import GGUF_ARCHS

    assert set(GGUF_ARCHS) == {"qwen35", "qwen35moe", "lfm2"}
    assert engines_for("gguf") == engines_for("gguf", experts=True) == ("server",)


def preset(name: str) -> QuantConfig:
    return read_choice(conf_folder() / "quant" / f"{name}.yaml", QuantConfig)


def fields(model: str) -> dict[str, Any]:
    file = conf_folder() / "model" / f"{model}.yaml"
    found: dict[str, Any] = yaml.safe_load(file.read_text())["architecture"]
    return found


def architecture_of(model: str) -> Architecture:
    return Architecture.from_config(fields(model))


def test_the_methods_above_are_all_of_their_kind() -> None:
    assert set(ONLY_VLLM) == {meant[0] for _, meant in PUBLISHED.values()}
    assert all(Method[name] for name in ONLY_VLLM)
