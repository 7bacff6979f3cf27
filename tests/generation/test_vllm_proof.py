"""What vLLM holds is compared with what was asked, experts and routers included."""

from pathlib import Path
from typing import Any

import pytest

from codejoule.config import UserError, conf_folder
from codejoule.config.schema import EngineConfig, QuantConfig
from codejoule.config.typed import read_choice
from codejoule.domain.engines import EngineName
from codejoule.generation.engine import ModelSource
from codejoule.generation.vllm.proof import model_facts, prove
from codejoule.generation.vllm.worker import fill, fill_exponents, inspect

SETTINGS = {
    "dtype": "bfloat16", "prefix_caching": False, "kv_dtype": "auto", "tensor_parallel": 1,
    "enforce_eager": False, "speculative": None, "architecture": "M", "attention": ["FLASH_ATTN"],
    "numbers": {"bfloat16": 1}, "memory_bytes": 1,
}  # fmt: skip


def source(quant: str) -> ModelSource:
    return ModelSource(
        folder=Path("unused"), random_seed=0, dtype="bfloat16", device="cuda", gpus=(0,),
        quant=read_choice(conf_folder() / "quant" / f"{quant}.yaml", QuantConfig),
        cpu_threads=None, vocabulary=320, context_tokens=None, kv_cache_bytes=None,
    )  # fmt: skip


def layer(path: str, method: str, *, scheme: str | None = None, **rest: Any) -> dict[str, Any]:
    return {
        "path": f"model.layers.0.{path}", "method": method, "scheme": scheme,
        "experts": "MoE" in method, "kernel": None, "bits": None, "group_size": None,
        "dtype": "bfloat16" if "Unquantized" in method else "uint8", "device": "cuda", **rest,
    }  # fmt: skip


PLAIN = layer("self_attn.qkv_proj", "UnquantizedLinearMethod")
ROUTER = layer("mlp.gate", "UnquantizedLinearMethod")
FP8 = layer("self_attn.qkv_proj", "Fp8LinearMethod")


def found(*layers: dict[str, Any]) -> dict[str, Any]:
    return SETTINGS | {"layers": list(layers)}


@pytest.mark.parametrize(
    ("quant", "layers"),
    [
        ("none", [PLAIN, ROUTER, layer("mlp.experts", "UnquantizedFusedMoEMethod")]),
        ("fp8", [FP8, ROUTER, layer("mlp.experts", "Fp8MoEMethod")]),
        ("fp8_block", [FP8, layer("mlp.gate", "Fp8LinearMethod"), layer("mlp.experts", "Fp8MoEMethod")]),
        ("gptq4", [layer("mlp.experts", "MoeWNA16Method"), ROUTER]),
        ("mxfp4", [PLAIN, layer("mlp.router", "UnquantizedLinearMethod"), layer("mlp.experts", "Mxfp4MoEMethod")]),
        ("w4a16", [layer("mlp.down_proj", "CompressedTensorsLinearMethod", scheme="CompressedTensorsWNA16")]),
        ("w8a8", [layer("mlp.down_proj", "CompressedTensorsLinearMethod", scheme="CompressedTensorsW8A8Int8")]),
        ("fp8_dynamic", [layer("mlp.experts", "CompressedTensorsW8A8Fp8MoEMethod")]),
    ],
)  # fmt: skip
def test_what_was_asked_is_accepted(quant: str, layers: list[dict[str, Any]]) -> None:
    prove(found(*layers), source(quant), EngineConfig(name=EngineName.vllm))


@pytest.mark.parametrize(
    ("quant", "layers", "text"),
    [
        ("none", [PLAIN, layer("mlp.experts", "Fp8MoEMethod")], "mlp.experts: asked for Unquantized"),
        ("fp8", [FP8, layer("mlp.experts", "UnquantizedFusedMoEMethod")], "asked for Fp8 weights"),
        ("none", [PLAIN, layer("mlp.gate", "Fp8LinearMethod")], "mlp.gate: asked for Unquantized"),
        ("mxfp4", [PLAIN, layer("mlp.experts", "UnquantizedFusedMoEMethod")], "asked for Mxfp4"),
        ("mxfp4", [layer("self_attn.o_proj", "Fp8LinearMethod")], "asked for Unquantized"),
        ("w8a8", [layer("x", "CompressedTensorsLinearMethod", scheme="CompressedTensorsW8A16Fp8")],
         "asked for CompressedTensorsW8A8Int8 weights, and vLLM has CompressedTensorsLinearMethod/"),
        ("mxfp4", [PLAIN | {"dtype": "float16"}], "dtype of .* asked for bfloat16"),
    ],
)  # fmt: skip
def test_anything_else_is_refused(quant: str, layers: list[dict[str, Any]], text: str) -> None:
    with pytest.raises(UserError, match=text):
        prove(found(*layers), source(quant), EngineConfig(name=EngineName.vllm))


def test_quantized_and_unquantized_layers_are_counted_apart() -> None:
    layers = found(PLAIN, ROUTER, layer("mlp.experts", "Mxfp4MoEMethod"))
    facts = model_facts(layers, source("mxfp4"))
    assert (facts["linear_quantized"], facts["linear_unquantized"]) == (1, 2)
    assert facts["kernels"] == {"UnquantizedLinearMethod": 2, "Mxfp4MoEMethod": 1}


def test_experts_are_looked_at_though_they_are_no_linear_layer() -> None:
    import torch

    class Mxfp4MoEMethod:
        pass

    class Wrapped:
        old_quant_method = Mxfp4MoEMethod()

    model = torch.nn.Module()
    model.experts = torch.nn.Module()
    model.experts.quant_method = Wrapped()
    model.experts.w13_weight = torch.nn.Parameter(
        torch.zeros(2, 4, 4, dtype=torch.uint8), requires_grad=False
    )
    model.norm = torch.nn.LayerNorm(4)
    (seen,) = inspect(model)["layers"]
    assert (seen["path"], seen["method"], seen["experts"]) == ("experts", "Mxfp4MoEMethod", True)
    assert (seen["dtype"], seen["scheme"]) == ("uint8", None)


def test_random_weights_of_small_floats_are_numbers_of_every_size() -> None:
    import torch

    torch.manual_seed(0)
    model = torch.nn.Module()
    for name, kind in (("weight", torch.float8_e4m3fn), ("blocks", torch.uint8)):
        blank = torch.zeros(64, 64, dtype=torch.uint8).view(kind)
        setattr(model, name, torch.nn.Parameter(blank, requires_grad=False))
    exponents = torch.full((64, 2), 255, dtype=torch.uint8)
    model.weight_scale = torch.nn.Parameter(exponents, requires_grad=False)
    fill_exponents(model)
    assert set(model.weight_scale.flatten().tolist()) == {121}
    assert len(model.blocks.unique()) > 200
    fill(model, 0)
    values = model.weight.float()
    assert values.isfinite().all() and 90 < values.std() < 130
    assert set(model.weight_scale.flatten().tolist()) == {121}
