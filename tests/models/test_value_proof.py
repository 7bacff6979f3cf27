"""What the kernels compute is what the checkpoint stores, read by a rule of our own."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codejoule.config import UserError
from codejoule.config.schema import Method, ModelConfig, QuantConfig, Weights
from codejoule.models import LoadedModel, load_model, locate_checkpoint
from codejoule.models.facts import inspect_layers, sampled_layers
from codejoule.models.folder import read_tensors
from codejoule.models.placement import Placement, architecture_config
from codejoule.models.quantization import quantizer_of
from codejoule.models.value_proof import prove_values

MakeModel = Callable[..., ModelConfig]
GPTQ4 = QuantConfig(name="gptq4", method=Method.gptq, bits=4, group_size=32)
GPTQ8 = dataclasses.replace(GPTQ4, name="gptq8", bits=8, group_size=128)
AWQ = QuantConfig(name="awq", method=Method.awq, bits=4, sym=False, group_size=32)
KERNELS = [
    (dataclasses.replace(quant, sym=sym, kernel=kernel), layout)
    for quant, layout, sym, kernels in (
        (GPTQ4, "gptq", True, ("torch_aten", "torch_fused", "torch_int8")),
        (GPTQ4, "gptq_v2", False, ("torch_aten", "torch_int8")),
        (GPTQ4, "gptq", False, ("torch_aten",)),
        (GPTQ8, "gptq_v2", True, ("torch_int8",)),
        (GPTQ8, "gptq", False, ("torch_int8",)),
        (AWQ, "gemm", False, ("torch_aten", "torch_fused", "torch_int8")),
    )
    for kernel in kernels
]


def named(case: tuple[QuantConfig, str]) -> str:
    quant, layout = case
    return f"{quant.name}-{layout}-{'sym' if quant.sym else 'asym'}-{quant.kernel}"


def one_in_each(bits: int) -> int:
    return sum(1 << place for place in range(0, 32, bits))


def write_packed(
    folder: Path, architecture: dict[str, Any], quant: QuantConfig, layout: str, **declared: Any
) -> Path:
    """A checkpoint of random numbers of every kind that its declaration allows."""
    from safetensors.torch import save_file

    from codejoule.models.tokenizer import byte_tokenizer

    config = architecture_config(architecture)
    quant = dataclasses.replace(quant, kernel="torch")
    quantizer: Any = quantizer_of(quant.method.name)
    model = quantizer.empty_model(config, quant, dtype=torch.float32, place=Placement(device="cpu"))
    random = torch.Generator().manual_seed(0)
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name.endswith("qweight"):
            made = torch.randint(-(2**31), 2**31, tensor.shape, generator=random).int()
        elif name.endswith("qzeros"):
            assert quant.bits is not None
            # Around the middle, as quantizers find them: 0 to 15 with four bits.
            around = 0 if quant.sym else 8
            made = torch.full_like(tensor, 2 ** (quant.bits - 1) * one_in_each(quant.bits) - 2**32)
            for place in range(0, 32, quant.bits):
                offset = torch.randint(-around, around or 1, tensor.shape, generator=random)
                made += (offset << place).int()
            if layout == "gptq":
                made -= one_in_each(quant.bits)
        elif name.endswith("g_idx"):
            made = (torch.arange(tensor.numel()) // (quant.group_size or 1)).int()
            if quant.desc_act:
                made = made[torch.randperm(tensor.numel(), generator=random)]
        else:
            # Eight bits rounded to int8 keep the steps of groups whose scales are like one another.
            spread = 0.01 if quant.bits == 4 else 0.001
            made = (torch.rand(tensor.shape, generator=random) * spread + 0.002).to(tensor.dtype)
        tensors[name] = made.contiguous()
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    words = {
        "quant_method": quant.method.name, "bits": quant.bits, "group_size": quant.group_size,
        "sym": quant.sym, "desc_act": quant.desc_act, "checkpoint_format": layout,
    } | declared  # fmt: skip
    if quant.method is Method.awq:
        words = {"zero_point": not words.pop("sym")} | words
    (folder / "config.json").write_text(json.dumps(architecture | {"quantization_config": words}))
    byte_tokenizer(architecture["vocab_size"]).save_pretrained(folder)
    return folder


def load(folder: Path, quant: QuantConfig) -> LoadedModel:
    model = ModelConfig(name="tiny", weights=Weights.local, path=str(folder), cpu_threads=1)
    found = locate_checkpoint(model, quant, cache_dir=folder.parent)
    return load_model(found, model, quant, device="cpu")


def logits(loaded: LoadedModel) -> torch.Tensor:
    with torch.inference_mode():
        return loaded.model(torch.arange(20)[None]).logits


@pytest.mark.parametrize(("quant", "layout"), KERNELS, ids=map(named, KERNELS))
def test_each_kernel_computes_what_each_layout_stores(
    quant: QuantConfig, layout: str, tiny_architecture: dict[str, Any], tmp_path: Path
) -> None:
    folder = write_packed(tmp_path / "m", tiny_architecture, quant, layout)
    values = load(folder, quant).facts.values
    assert len(values) == 7, "one of each kind of layer"
    assert {entry["name"].split(".")[2] for entry in values} == {"0", "1"}, "at both ends"
    for entry in values:
        assert entry["relative_error"] < 0.02
        assert entry["zero_points"] >= entry["outputs"], "one of each output at least"
    assert json.loads(json.dumps(values)) == values


def test_the_same_weights_in_either_layout_give_the_same_numbers(
    tiny_architecture: dict[str, Any], tmp_path: Path
) -> None:
    for sym in (True, False):
        quant = dataclasses.replace(GPTQ4, sym=sym)
        first, second = (
            logits(load(write_packed(tmp_path / f"{sym}-{name}", tiny_architecture, quant, name),
                        quant))
            for name in ("gptq", "gptq_v2")
        )  # fmt: skip
        assert torch.equal(first, second)


def test_weights_in_the_order_of_activations_are_proven(
    tiny_architecture: dict[str, Any], tmp_path: Path
) -> None:
    quant = dataclasses.replace(GPTQ4, desc_act=True, kernel="torch_int8")
    folder = write_packed(tmp_path / "m", tiny_architecture, quant, "gptq")
    assert load(folder, quant).facts.values


def test_a_kernel_that_ignores_zero_points_is_refused(
    tiny_architecture: dict[str, Any], tmp_path: Path
) -> None:
    """gptqmodel 7.6's fused kernel of the CPU does, save where they are symmetric: raise the pin
    and see whether this still holds."""
    quant = dataclasses.replace(GPTQ4, sym=False, kernel="torch_fused")
    folder = write_packed(tmp_path / "m", tiny_architecture, quant, "gptq")
    with pytest.raises(UserError, match=r"TorchFusedLinear does not compute with .*q_proj") as told:
        load(folder, quant)
    assert "choose another quant.kernel" in str(told.value)


@pytest.mark.parametrize("quant", [GPTQ4, GPTQ8])
def test_a_layout_declared_wrongly_is_noticed_where_weights_are_symmetric(
    quant: QuantConfig, tiny_architecture: dict[str, Any], tmp_path: Path
) -> None:
    stored, said = ("gptq_v2", "gptq") if quant is GPTQ4 else ("gptq", "gptq_v2")
    folder = write_packed(tmp_path / "m", tiny_architecture, quant, stored, checkpoint_format=said)
    with pytest.raises(UserError, match=r"declared symmetric, but .*q_proj has zero points of"):
        load(folder, quant)


@pytest.fixture(scope="module", params=[k for k in KERNELS if not k[0].sym], ids=named)
def proven(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    architectures: dict[str, dict[str, Any]],
) -> tuple[Callable[..., Any], dict[str, Any], QuantConfig, str]:
    """A loaded model, its tensors, and the proof of other tensors than it was loaded from."""
    quant, layout = request.param
    folder = tmp_path_factory.mktemp("proven") / "m"
    loaded = load(write_packed(folder, architectures["qwen2"], quant, layout), quant)
    layers = sampled_layers(inspect_layers(loaded.model))[-1:]

    def prove(stored: dict[str, Any], layout: str = layout) -> Any:
        return prove_values(
            loaded.model, layers, stored, quant, layout, dtype=torch.float32, source="here"
        )

    return prove, read_tensors(folder, [layers[0].name]), quant, layout


def test_another_layout_than_the_one_loaded_is_noticed(
    proven: tuple[Callable[..., Any], dict[str, Any], QuantConfig, str],
) -> None:
    prove, stored, quant, layout = proven
    prove(stored)
    if quant.method is Method.gptq:
        other = {"gptq": "gptq_v2", "gptq_v2": "gptq"}[layout]
        with pytest.raises(UserError, match="does not compute with the weights of"):
            prove(stored, other)


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_a_single_zero_point_off_by_one_is_noticed(
    data: st.DataObject, proven: tuple[Callable[..., Any], dict[str, Any], QuantConfig, str]
) -> None:
    prove, stored, quant, _ = proven
    assert quant.bits is not None
    ((name, tensors),) = stored.items()
    zeros = tensors["qzeros"].clone()
    group = data.draw(st.integers(0, zeros.shape[0] - 1))
    # Of the outputs that are looked at; their zero points lie in words of their own.
    quantizer = quantizer_of(quant.method.name)
    kept = quantizer.stored_layer(tensors, quant, None, device=torch.device("cpu"))
    looked_at = kept.outputs
    word = data.draw(st.sampled_from(looked_at.tolist())) // (32 // quant.bits)
    place = data.draw(st.integers(0, 32 // quant.bits - 1)) * quant.bits
    held = int(zeros[group, word]) >> place & (2**quant.bits - 1)
    changed = held + 1 if held == 0 else held - 1
    value = int(zeros[group, word]) + ((changed - held) << place)
    zeros[group, word] = (value + 2**31) % 2**32 - 2**31
    broken = {name: tensors | {"qzeros": zeros}}
    with pytest.raises(UserError, match=r"as if zero points were off by up to (0\.9|1)"):
        prove(broken)
