"""bitsandbytes and torchao, which quantize unquantized weights while they are loaded.

torchao refuses fp8 without a GPU that has it, though PyTorch multiplies so on a CPU as well: here it
is not asked, and all else is real.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codejoule.config import ConfigError, UserError
from codejoule.config.schema import (
    Dtype,
    Method,
    ModelConfig,
    QuantConfig,
    QuantSource,
    Weights,
)
from codejoule.models import (
    check_capability,
    check_model_config,
    load_model,
    locate_checkpoint,
    prepare_libraries,
)

MakeModel = Callable[..., ModelConfig]
Quants = dict[str, QuantConfig]
DTYPES = {"fp8": Dtype.bfloat16}
ARMS = [
    ("bnb_nf4", "bnb_4bit", "Linear4bit", "bnb-4bit-g64", 0.95),
    ("bnb_int8", "bnb_int8", "Linear8bitLt", "bnb-8bit-g-1", 0.999),
    ("torchao_int8", "torchao_int8", "Int8Tensor", "torchao-8bit-g-1", 0.999),
    ("fp8", "torchao_fp8", "Float8Tensor", "fp8-8bit-g-1", 0.99),
]


@pytest.fixture
def fp8_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this machine's GPU had fp8."""
    import torchao.quantization.quant_api

    monkeypatch.setattr(
        torchao.quantization.quant_api, "_check_hardware_support", lambda granularity: None
    )


@pytest.mark.usefixtures("fp8_everywhere")
@pytest.mark.parametrize(("name", "kernel", "kind", "label", "closeness"), ARMS)
def test_a_model_quantized_while_loading_is_proven_and_close_to_its_base(
    name: str,
    kernel: str,
    kind: str,
    label: str,
    closeness: float,
    tiny_folder: Path,
    make_model: MakeModel,
    quants: Quants,
    tmp_path: Path,
) -> None:
    import torch

    model = make_model(tiny_folder, dtype=DTYPES.get(name, Dtype.auto))
    loaded = []
    for quant in (quants["none"], quants[name]):
        found = locate_checkpoint(model, quant, cache_dir=tmp_path)
        assert not found.needs_quantization
        loaded.append(load_model(found, model, quant, device="cpu"))
    base, facts = loaded[0].facts, loaded[1].facts
    assert (facts.kernel, facts.quantization) == (kernel, label)
    assert facts.kernels == {kind: 14, "Linear": 1}
    assert facts.bits == quants[name].bits
    assert facts.checksum == base.checksum
    assert facts.n_parameters == base.n_parameters
    # Embedding and head stay as they are.
    assert facts.memory_bytes < base.memory_bytes / (2 if base.dtype == "float32" else 1.5)
    ids = torch.arange(40).reshape(2, 20)
    with torch.inference_mode():
        logits = [m.model(ids).logits.float().flatten() for m in loaded]
    assert torch.nn.functional.cosine_similarity(*logits, dim=0).item() >= closeness


@pytest.mark.usefixtures("fp8_everywhere")
@pytest.mark.parametrize("name", [arm[0] for arm in ARMS])
def test_random_weights_are_quantized_the_same_way(
    name: str, tiny_architecture: dict[str, Any], quants: Quants, tmp_path: Path
) -> None:
    model = ModelConfig(
        name="tiny",
        weights=Weights.random,
        architecture=tiny_architecture,
        cpu_threads=1,
        dtype=DTYPES.get(name, Dtype.auto),
    )
    found = locate_checkpoint(model, quants[name], cache_dir=tmp_path)
    facts = load_model(found, model, quants[name], device="cpu").facts
    assert (facts.linear_quantized, facts.linear_unquantized) == (14, 1)


@pytest.mark.usefixtures("fp8_everywhere")
def test_fp8_that_computes_with_other_scales_is_refused(
    tiny_folder: Path, make_model: MakeModel, quants: Quants, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchao.quantization import Float8Tensor

    true = Float8Tensor.from_hp

    def one_scale_off(tensor: Any, *settings: Any, **options: Any) -> Any:
        made = true(tensor, *settings, **options)
        if "act_quant_kwargs" in options:  # a weight
            made.scale = made.scale.roll(1, 0)
        return made

    monkeypatch.setattr(Float8Tensor, "from_hp", one_scale_off)
    model = make_model(tiny_folder, dtype=Dtype.bfloat16)
    found = locate_checkpoint(model, quants["fp8"], cache_dir=Path("unused"))
    with pytest.raises(UserError, match=r"Float8Tensor does not compute with the weights of"):
        load_model(found, model, quants["fp8"], device="cpu")


def test_fp8_of_weights_alone_is_not_taken_for_fp8() -> None:
    import torch
    from torchao.quantization import Float8WeightOnlyConfig, quantize_

    from codejoule.models.quantization import quantizer_of

    layer = torch.nn.Linear(64, 64, dtype=torch.bfloat16)
    quantize_(layer, Float8WeightOnlyConfig())
    assert type(layer.weight).__name__ == "Float8Tensor"
    assert quantizer_of("fp8").inspect(layer) is None


def test_fp8_is_refused_where_nothing_multiplies_so(
    quants: Quants, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    with pytest.raises(UserError, match=r"fp8: the CPU has no products .*8\.9 .*torchao_int8"):
        check_capability(quants["fp8"], "cpu")
    check_capability(quants["torchao_int8"], "cpu")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    with pytest.raises(UserError, match=r"this GPU \(compute capability 8\.0\) has no products"):
        check_capability(quants["fp8"], "cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    check_capability(quants["fp8"], "cuda")


def test_fp8_with_another_dtype_than_its_rows_need_is_refused(
    tiny_folder: Path, make_model: MakeModel, quants: Quants
) -> None:
    model = make_model(tiny_folder, dtype=Dtype.float16)
    with pytest.raises(ConfigError, match=r"model\.dtype=float16 with quant=fp8: .*bfloat16"):
        prepare_libraries(model, quants["fp8"], device="cpu")


def test_settings_that_these_methods_lack_are_refused(quants: Quants) -> None:
    with pytest.raises(ConfigError, match=r"quant\.group_size=128: bnb with 4 bits .* use 64"):
        QuantConfig(name="bnb_nf4", method=Method.bnb, bits=4, group_size=128)
    with pytest.raises(ConfigError, match=r"quant\.source=hub: torchao quantizes unquantized"):
        QuantConfig(name="t", method=Method.torchao, bits=8, group_size=-1, source=QuantSource.hub)
    with pytest.raises(ConfigError, match=r"quant\.bits=4: torchao takes 8"):
        QuantConfig(name="t", method=Method.torchao, bits=4, group_size=64)
    moe = ModelConfig(
        name="d", id="d/d", architecture={"model_type": "deepseek_v2", "n_routed_experts": 4}
    )
    with pytest.raises(ConfigError, match=r"bnb cannot quantize its layers; use quant=gptq4"):
        check_model_config(moe, quants["bnb_nf4"])


def test_a_library_that_cannot_be_imported_is_named_with_its_remedy(
    quants: Quants, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError, match=r"quant=bnb_nf4: bitsandbytes cannot be imported .*pip"):
        prepare_libraries(ModelConfig(name="m", id="m/m"), quants["bnb_nf4"], device="cpu")
