"""bitsandbytes and torchao, which quantize unquantized weights while they are loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codejoule.config import ConfigError
from codejoule.config.schema import (
    Method,
    ModelConfig,
    QuantConfig,
    QuantSource,
    Weights,
)
from codejoule.models import check_model_config, load_model, locate_checkpoint

MakeModel = Callable[..., ModelConfig]
Quants = dict[str, QuantConfig]
ARMS = [
    ("bnb_nf4", "bnb_4bit", "Linear4bit", "bnb-4bit-g64", 0.95),
    ("bnb_int8", "bnb_int8", "Linear8bitLt", "bnb-8bit-g-1", 0.999),
    ("torchao_int8", "torchao_int8", "Int8Tensor", "torchao-8bit-g-1", 0.999),
]


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

    model = make_model(tiny_folder)
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
    assert facts.memory_bytes < base.memory_bytes / 2
    ids = torch.arange(40).reshape(2, 20)
    with torch.inference_mode():
        logits = [m.model(ids).logits.float().flatten() for m in loaded]
    assert torch.nn.functional.cosine_similarity(*logits, dim=0).item() >= closeness


@pytest.mark.parametrize("name", [arm[0] for arm in ARMS])
def test_random_weights_are_quantized_the_same_way(
    name: str, tiny_architecture: dict[str, Any], quants: Quants, tmp_path: Path
) -> None:
    model = ModelConfig(
        name="tiny", weights=Weights.random, architecture=tiny_architecture, cpu_threads=1
    )
    found = locate_checkpoint(model, quants[name], cache_dir=tmp_path)
    facts = load_model(found, model, quants[name], device="cpu").facts
    assert (facts.linear_quantized, facts.linear_unquantized) == (14, 1)


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

    from codejoule.config import UserError
    from codejoule.models import prepare_libraries

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError, match=r"quant=bnb_nf4: bitsandbytes cannot be imported .*pip"):
        prepare_libraries(ModelConfig(name="m", id="m/m"), quants["bnb_nf4"], device="cpu")
