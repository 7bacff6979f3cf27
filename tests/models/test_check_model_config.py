import json
from pathlib import Path
from typing import Any

import pytest

from codejoule.config import ConfigError
from codejoule.config.schema import (
    Device,
    Dtype,
    Method,
    ModelConfig,
    QuantConfig,
    QuantSource,
    Weights,
)
from codejoule.models import check_model_config

NONE = QuantConfig(name="none")
GPTQ4 = QuantConfig(name="gptq4", method=Method.gptq, bits=4)
AWQ = QuantConfig(name="awq", method=Method.awq, bits=4, sym=False)


def hub(**changes: Any) -> ModelConfig:
    return ModelConfig(**({"name": "qwen_7b", "id": "Qwen/Qwen2.5-7B-Instruct"} | changes))


def write_folder(folder: Path, **config: Any) -> ModelConfig:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2"} | config))
    return ModelConfig(name="mine", weights=Weights.local, path=str(folder))


@pytest.mark.parametrize(
    ("model", "quant", "words"),
    [
        (hub(weights=Weights.local), NONE, ["model.weights=local", "model.path=FOLDER"]),
        (
            hub(weights=Weights.local, path="/no/such"),
            NONE,
            ["model.path=/no/such", "no such file or folder"],
        ),
        (hub(path="/tmp"), NONE, ["model.path=/tmp", "model.weights=hub", "drop model.path"]),
        (
            hub(weights=Weights.bundled),
            NONE,
            ["model.weights=bundled", "model=qwen_7b", "do not ship"],
        ),
        (hub(id=None), NONE, ["no repository on the hub", "model.weights=local"]),
        (
            hub(
                weights=Weights.random, architecture={"model_type": "q", "intermediate_size": 10944}
            ),
            QuantConfig(name="gptq4", method=Method.gptq, bits=4, group_size=128),
            ["quant.group_size=128", "intermediate_size=10944", "64, 32, -1, or null"],
        ),
        (hub(weights=Weights.random), NONE, ["architecture", "choose another model"]),
        (
            hub(quantized={"awq": "Qwen/x"}),
            QuantConfig(name="gptq4", method=Method.gptq, bits=4, source=QuantSource.hub),
            ["quant.source=hub", "published: awq", "quant.source=local"],
        ),
        (
            hub(architecture={"model_type": "deepseek_v2", "n_routed_experts": 64}),
            AWQ,
            ["quant=awq", "mixture of experts", "deepseek_v2", "quant=gptq4, gptq8 or none"],
        ),
    ],
)
def test_contradictions_name_the_key_and_the_way_out(
    model: ModelConfig, quant: QuantConfig, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_model_config(model, quant)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("quant", "dtype", "fix"),
    [
        (AWQ, Dtype.bfloat16, "model.dtype=float16, or auto"),
        (AWQ, Dtype.float32, "model.dtype=float16, or auto"),
        (GPTQ4, Dtype.float32, "model.dtype=float16 or bfloat16, or auto"),
    ],
)
def test_a_dtype_that_the_cuda_kernels_lack_is_refused(
    quant: QuantConfig, dtype: Dtype, fix: str
) -> None:
    with pytest.raises(ConfigError, match="quantized weights with a dtype that") as caught:
        check_model_config(hub(dtype=dtype), quant, device=Device.cuda)
    assert fix in str(caught.value)


@pytest.mark.parametrize("device", [Device.cpu, Device.auto])
def test_the_cpu_takes_any_dtype(device: Device) -> None:
    check_model_config(hub(dtype=Dtype.bfloat16), AWQ, device=device)


def test_float16_and_auto_suit_the_cuda_kernels() -> None:
    for dtype in (Dtype.auto, Dtype.float16):
        for quant in (GPTQ4, AWQ):
            check_model_config(hub(dtype=dtype), quant, device=Device.cuda)


def test_a_folder_without_config_json_is_refused(tmp_path: Path) -> None:
    model = ModelConfig(name="mine", weights=Weights.local, path=str(tmp_path))
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        check_model_config(model, NONE)


def test_a_quantized_folder_is_refused_for_quant_none(tmp_path: Path) -> None:
    model = write_folder(tmp_path / "m", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(ConfigError, match=r"quant=none .* quantized with gptq \(4 bits\)"):
        check_model_config(model, NONE)


def test_a_folder_quantized_otherwise_is_refused(tmp_path: Path) -> None:
    model = write_folder(
        tmp_path / "m", quantization_config={"quant_method": "gptq", "bits": 8, "group_size": 64}
    )
    with pytest.raises(ConfigError) as caught:
        check_model_config(model, GPTQ4)
    assert "bits: asked 4, the checkpoint has 8" in str(caught.value)
    assert "group_size" not in str(caught.value)
    asked = QuantConfig(name="gptq4", method=Method.gptq, bits=4, group_size=128)
    with pytest.raises(ConfigError, match="group_size: asked 128, the checkpoint has 64"):
        check_model_config(model, asked)


def test_an_unquantized_folder_is_no_published_checkpoint(tmp_path: Path) -> None:
    quant = QuantConfig(name="gptq4", method=Method.gptq, bits=4, source=QuantSource.hub)
    with pytest.raises(ConfigError, match=r"not quantized; use quant\.source=local"):
        check_model_config(write_folder(tmp_path / "m"), quant)


def test_awqs_zero_points_are_compared(tmp_path: Path) -> None:
    declared = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
    model = write_folder(tmp_path / "m", quantization_config=declared)
    check_model_config(model, AWQ)
    symmetric = QuantConfig(name="awq", method=Method.awq, bits=4, sym=True)
    with pytest.raises(ConfigError, match="sym: asked True, the checkpoint has False"):
        check_model_config(model, symmetric)


def test_checking_imports_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, codejoule.models, codejoule.generation as g; "
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
