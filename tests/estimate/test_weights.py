"""Bytes of weights against checkpoints and layers that exist."""

from pathlib import Path
from typing import Any

import pytest

from codejoule.domain import Architecture, Quantization, linear_layers
from codejoule.estimate import weight_bytes

from .conftest import STARTER, fields_of

QUANTIZATIONS = {
    "gptq8": Quantization(method="gptq", bits=8, group_size=128),
    "gptq4": Quantization(method="gptq", bits=4, group_size=128),
    "awq": Quantization(method="awq", bits=4, group_size=128),
    "none": Quantization(),
}


def stored(folder: Path) -> dict[str, int]:
    """Bytes of each kind of tensor in a safetensors file."""
    from safetensors.numpy import load_file

    kinds: dict[str, int] = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        kind = name.rpartition(".")[2]
        kinds[kind] = kinds.get(kind, 0) + tensor.nbytes
    return kinds


@pytest.mark.parametrize("quant", QUANTIZATIONS)
def test_bytes_equal_the_bundled_checkpoints_to_the_byte(quant: str) -> None:
    tensors = stored(STARTER / quant)
    # gptqmodel saved the GPTQ checkpoints' unquantized tensors in float32.
    dtype = "float32" if quant.startswith("gptq") else "float16"
    architecture = Architecture.from_config(fields_of("starter"))
    ours = weight_bytes(architecture, QUANTIZATIONS[quant], dtype=dtype)
    assert ours.total_bytes == sum(tensors.values())
    if quant != "none":
        assert ours.quantized_bytes == tensors["qweight"]
        overhead = ("scales", "qzeros", "g_idx", "bias")
        assert ours.overhead_bytes == sum(tensors.get(kind, 0) for kind in overhead)
        assert ours.unquantized_bytes == tensors["weight"]


@pytest.mark.parametrize(("method", "bits"), [("bnb", 4), ("bnb", 8), ("torchao", 8), ("fp8", 8)])
def test_bytes_of_layers_equal_what_the_libraries_make_of_them(method: str, bits: int) -> None:
    layers = linear_layers(architecture := Architecture.from_config(fields_of("starter")))
    ours = weight_bytes(architecture, Quantization(method=method, bits=bits), dtype="float16")
    made = sum(
        x.number * library_bytes(method, bits, x.in_features, x.out_features) for x in layers
    )
    biases = 2 * sum(x.number * x.out_features for x in layers if x.bias)
    assert ours.quantized_bytes + ours.overhead_bytes == made + biases


def library_bytes(method: str, bits: int, inputs: int, outputs: int) -> int:
    """Bytes that the method's own library keeps for a float16 layer without bias."""
    import torch

    weight = torch.randn(outputs, inputs, dtype=torch.float16)
    if method == "torchao":
        quantization = pytest.importorskip("torchao.quantization")
        linear = torch.nn.Linear(inputs, outputs, bias=False, dtype=torch.float16)
        quantization.quantize_(linear, quantization.Int8WeightOnlyConfig())
        names, _ = linear.weight.__tensor_flatten__()
        return sum(getattr(linear.weight, name).nbytes for name in names)
    if method == "fp8":
        quantization = pytest.importorskip("torchao.quantization")
        made = quantization.Float8Tensor.from_hp(weight, granularity=quantization.PerRow())
        return int(made.qdata.nbytes + made.scale.nbytes)
    functional = pytest.importorskip("bitsandbytes.functional")
    if bits == 4:
        packed, state = functional.quantize_4bit(weight, quant_type="nf4", blocksize=64)
        return int(packed.nbytes + state.absmax.nbytes + state.code.nbytes)
    integers, scales, _ = functional.int8_vectorwise_quant(weight)
    return int(integers.nbytes + scales.nbytes)


def test_embedding_and_head_stay_in_16_bits() -> None:
    architecture = Architecture.from_config(fields_of("qwen_7b"))
    ours = weight_bytes(architecture, QUANTIZATIONS["gptq4"], dtype="float16")
    matrices = 2 * 152064 * 3584 * 2
    assert matrices < ours.unquantized_bytes < matrices * 1.001
    # The published checkpoint is 5.58 GB, where bytes per parameter alone would say 3.81.
    assert round(ours.total_bytes / 1e9, 2) == 5.58


def test_a_group_size_that_does_not_divide_is_refused() -> None:
    deepseek = Architecture.from_config(fields_of("deepseek_coder_16b"))
    with pytest.raises(ValueError, match="group_size=128: down_proj has 10944 inputs"):
        weight_bytes(deepseek, QUANTIZATIONS["gptq4"], dtype="float16")
    whole = Quantization(method="gptq", bits=4, group_size=-1)
    halved = Quantization(method="gptq", bits=4, group_size=64)
    sizes = [weight_bytes(deepseek, q, dtype="float16").total_bytes for q in (whole, halved)]
    assert sizes[0] < sizes[1]


def test_bitsandbytes_leaves_routed_experts_alone() -> None:
    deepseek = Architecture.from_config(fields_of("deepseek_coder_16b"))
    ours = weight_bytes(deepseek, Quantization(method="bnb", bits=4), dtype="float16")
    experts = 26 * 64 * 3 * 2048 * 1408 * 2
    assert ours.unquantized_bytes > experts
    packed = weight_bytes(
        deepseek, Quantization(method="gptq", bits=4, group_size=64), dtype="float16"
    )
    assert packed.unquantized_bytes < experts / 10


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"method": "ggml"}, "method=ggml: choose one of none, gptq, awq, bnb, torchao"),
        ({"method": "gptq", "bits": 3}, "bits=3: gptq takes 4 or 8"),
        ({"method": "awq", "bits": 8}, "bits=8: awq takes 4"),
        ({"method": "gptq", "bits": 4}, "group_size=None: gptq needs one of at least 1"),
    ],
)
def test_methods_and_bits_that_do_not_exist_are_refused(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Quantization(**fields)
