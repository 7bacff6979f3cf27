import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codejoule.config import ConfigError, UserError
from codejoule.config.schema import Dtype, Method, ModelConfig, QuantConfig, Weights
from codejoule.models import Checkpoint, LoadedModel, load_model, locate_checkpoint

MakeModel = Callable[..., ModelConfig]
Quants = dict[str, QuantConfig]


def as_found(folder: Path, quantization: str = "none") -> Checkpoint:
    """A checkpoint as if `folder` had been found for what was asked."""
    return Checkpoint(
        weights=Weights.local,
        source=f"local:{folder.name}",
        path=folder,
        checksum="unused",
        quantization=quantization,
    )


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the tensors of a folder's only safetensors file."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.fixture
def copied(tiny_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copied"
    shutil.copytree(tiny_folder, folder)
    return folder


def load_local(folder: Path, model: ModelConfig, quant: QuantConfig) -> LoadedModel:
    found = locate_checkpoint(model, quant, cache_dir=folder.parent)
    return load_model(found, model, quant, device="cpu")


def test_an_unquantized_model_is_what_its_facts_say(
    tiny_folder: Path, make_model: MakeModel, quants: Quants
) -> None:
    import torch

    loaded = load_local(tiny_folder, make_model(tiny_folder), quants["none"])
    facts = loaded.facts
    assert facts.architecture == "Qwen2ForCausalLM"
    assert facts.n_parameters == sum(p.numel() for p in loaded.model.parameters()) == 377_984
    assert (facts.dtype, facts.device, facts.weights) == ("float32", "cpu", "local")
    assert (facts.quantization, facts.bits, facts.group_size) == ("none", None, None)
    assert (facts.linear_quantized, facts.linear_unquantized) == (0, 15)
    assert facts.kernels == {"Linear": 15}
    assert facts.cpu_threads == 1 == torch.get_num_threads()
    assert facts.versions["torch"] == torch.__version__
    assert json.loads(json.dumps(facts.to_json()))["checksum"] == facts.checksum
    assert not loaded.model.training
    assert loaded.tokenizer.padding_side == "left"


def test_the_dtype_asked_for_is_the_dtype_loaded(
    tiny_folder: Path, make_model: MakeModel, quants: Quants
) -> None:
    model = make_model(tiny_folder, dtype=Dtype.bfloat16)
    loaded = load_local(tiny_folder, model, quants["none"])
    assert loaded.facts.dtype == "bfloat16"
    assert {str(p.dtype) for p in loaded.model.parameters()} == {"torch.bfloat16"}


def test_no_thread_count_means_all_cores(
    tiny_folder: Path, make_model: MakeModel, quants: Quants
) -> None:
    import os

    loaded = load_local(tiny_folder, make_model(tiny_folder, cpu_threads=None), quants["none"])
    assert loaded.facts.cpu_threads == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("name", "kernel", "bits", "cosine"),
    [
        ("gptq8", "TorchInt8Linear", 8, 0.999),
        ("gptq4", "TorchAtenLinear", 4, 0.95),
        ("awq", "TorchAtenAwqLinear", 4, 0.95),
    ],
)
def test_a_quantized_model_is_proven_and_close_to_its_base(
    name: str,
    kernel: str,
    bits: int,
    cosine: float,
    tiny_folder: Path,
    quantized: Callable[[str], Path],
    make_model: MakeModel,
    quants: Quants,
) -> None:
    import torch

    base = load_local(tiny_folder, make_model(tiny_folder), quants["none"])
    folder = quantized(name)
    loaded = load_local(folder, make_model(folder), quants[name])
    facts = loaded.facts
    assert facts.n_parameters == base.facts.n_parameters
    assert facts.memory_bytes < base.facts.memory_bytes / 2
    assert (facts.linear_quantized, facts.linear_unquantized) == (14, 1)
    assert (facts.bits, facts.group_size) == (bits, 128)
    assert facts.kernels == {kernel: 14, "Linear": 1}
    assert set(facts.kernel_notes) == {kernel}
    ids = torch.arange(40).reshape(2, 20)
    with torch.inference_mode():
        logits = [m.model(ids).logits.float().flatten() for m in (base, loaded)]
    assert torch.nn.functional.cosine_similarity(*logits, dim=0).item() >= cosine


def test_a_missing_tensor_is_refused_by_name(
    copied: Path, make_model: MakeModel, quants: Quants
) -> None:
    rewrite(copied, lambda tensors: tensors.pop("model.layers.1.mlp.down_proj.weight"))
    with pytest.raises(UserError, match="lacks 1 tensor") as caught:
        load_local(copied, make_model(copied), quants["none"])
    assert "model.layers.1.mlp.down_proj.weight" in str(caught.value)
    assert "random numbers" in str(caught.value)


def test_a_tensor_that_has_no_place_is_refused(
    copied: Path, make_model: MakeModel, quants: Quants
) -> None:
    import torch

    rewrite(copied, lambda t: t.update({"model.layers.7.extra.weight": torch.ones(2)}))
    with pytest.raises(UserError, match=r"holds 1 tensor \(model\.layers\.7\.extra\.weight\)"):
        load_local(copied, make_model(copied), quants["none"])


def test_a_zero_bias_without_a_place_is_left_out_and_counted(
    copied: Path, make_model: MakeModel, quants: Quants
) -> None:
    import torch

    name = "model.layers.0.mlp.down_proj.bias"
    rewrite(copied, lambda tensors: tensors.update({name: torch.zeros(128)}))
    assert load_local(copied, make_model(copied), quants["none"]).facts.ignored_zero_biases == 1
    rewrite(copied, lambda tensors: tensors.update({name: torch.ones(128)}))
    with pytest.raises(UserError, match="which the architecture has no place for"):
        load_local(copied, make_model(copied), quants["none"])


def test_a_truncated_file_is_one_message(
    copied: Path, make_model: MakeModel, quants: Quants
) -> None:
    file = copied / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"cannot be loaded \(SafetensorError"):
        load_local(copied, make_model(copied), quants["none"])


def test_a_tensor_of_another_shape_is_refused(
    copied: Path, make_model: MakeModel, quants: Quants
) -> None:
    import torch

    rewrite(copied, lambda tensors: tensors.update({"model.norm.weight": torch.ones(64)}))
    with pytest.raises(UserError, match=r"copied: "):
        load_local(copied, make_model(copied), quants["none"])


def test_an_unquantized_folder_is_refused_for_gptq4(
    tiny_folder: Path, make_model: MakeModel, quants: Quants
) -> None:
    found = as_found(tiny_folder, "gptq-4bit-g128")
    with pytest.raises(UserError, match=r"asked for quant=gptq4, .* quantization is none"):
        load_model(found, make_model(tiny_folder), quants["gptq4"], device="cpu")


def test_a_quantized_folder_is_refused_for_quant_none(
    quantized: Callable[[str], Path], make_model: MakeModel, quants: Quants
) -> None:
    folder = quantized("gptq4")
    with pytest.raises(UserError, match=r"asked for quant=none, .* quantization is gptq"):
        load_model(as_found(folder), make_model(folder), quants["none"], device="cpu")


def test_a_checkpoint_that_declares_something_else_is_refused(
    quantized: Callable[[str], Path], make_model: MakeModel, quants: Quants
) -> None:
    folder = quantized("gptq4")
    asked = dataclasses.replace(quants["gptq4"], group_size=64)
    with pytest.raises(UserError, match="group_size: asked 64, the checkpoint has 128"):
        load_model(as_found(folder), make_model(folder), asked, device="cpu")


def test_a_checkpoint_that_is_not_what_it_declares_is_refused(
    quantized: Callable[[str], Path], make_model: MakeModel, quants: Quants, tmp_path: Path
) -> None:
    folder = tmp_path / "lies"
    shutil.copytree(quantized("gptq4"), folder)
    for name in ("config.json", "quantize_config.json"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace('"bits": 4', '"bits": 8'))
    with pytest.raises(UserError, match=r"in another shape 28 tensors \(model\.layers\.0\.mlp"):
        load_model(as_found(folder), make_model(folder), quants["gptq8"], device="cpu")


def test_layers_with_other_bits_than_asked_or_unpacked_ones_are_named(
    quantized: Callable[[str], Path], make_model: MakeModel, quants: Quants
) -> None:
    from codejoule.models.facts import inspect_layers
    from codejoule.models.proof import prove_quantization

    folder = quantized("gptq4")
    net = load_local(folder, make_model(folder), quants["gptq4"]).model
    layers = inspect_layers(net)
    prove_quantization(layers, quants["gptq4"], "here", excepted=())
    with pytest.raises(UserError, match="14 layers are quantized otherwise") as caught:
        prove_quantization(layers, quants["gptq8"], "here", excepted=())
    assert "model.layers.0.self_attn.q_proj (4 bits, groups of 128)" in str(caught.value)
    assert "and 11 more" in str(caught.value)
    layers[0] = dataclasses.replace(layers[0], stored_bits=16.0)
    with pytest.raises(UserError, match=r"1 layers are not packed: .*q_proj \(16\.0 bits in mem"):
        prove_quantization(layers, quants["gptq4"], "here", excepted=())


def test_every_linear_layer_is_described(
    quantized: Callable[[str], Path], make_model: MakeModel, quants: Quants
) -> None:
    folder = quantized("gptq4")
    facts = load_local(folder, make_model(folder), quants["gptq4"]).facts
    assert sum(entry["count"] for entry in facts.layers) == 15
    gate = next(entry for entry in facts.layers if entry["name"].endswith("gate_proj"))
    assert gate == {
        "name": "model.layers.*.mlp.gate_proj",
        "kernel": "TorchAtenLinear",
        "bits": 4,
        "group_size": 128,
        "stored_bits": 4.0,
        "dtype": gate["dtype"],
        "device": "cpu",
        "in_features": 128,
        "out_features": 256,
        "count": 2,
    }
    assert gate["dtype"] in ("bfloat16", "float16")
    assert json.loads(json.dumps(facts.to_json()))["kernel"] == "torch_aten"


def test_a_layer_left_unquantized_is_refused_unless_the_checkpoint_says_so(quants: Quants) -> None:
    from codejoule.models.facts import LinearLayer
    from codejoule.models.proof import prove_quantization

    def layer(name: str, bits: int | None) -> LinearLayer:
        return LinearLayer(
            name=f"model.layers.0.{name}",
            kernel="K",
            in_features=256,
            out_features=256,
            has_bias=False,
            bits=bits,
            group_size=None if bits is None else 128,
            stored_bits=float(bits or 32),
            dtype="float32",
            device="cpu",
        )

    layers = [layer("mlp.up_proj", 4), layer("mlp.down_proj", None)]
    with pytest.raises(UserError, match=r"1 layers are not quantized: model\.layers\.0\.mlp\.down"):
        prove_quantization(layers, quants["gptq4"], "here", excepted=())
    prove_quantization(layers, quants["gptq4"], "here", excepted=("mlp.down_proj",))
    with pytest.raises(UserError, match="all layers are not quantized"):
        prove_quantization([], quants["gptq4"], "here", excepted=())


def test_a_dtype_that_the_kernels_lack_is_refused_before_loading(
    tiny_folder: Path, make_model: MakeModel, quants: Quants
) -> None:
    model = make_model(tiny_folder, dtype=Dtype.bfloat16)
    with pytest.raises(ConfigError, match="dtype that awq's CUDA kernels lack"):
        load_model(as_found(tiny_folder), model, quants["awq"], device="cuda")


def test_parameters_of_another_dtype_or_device_are_refused(
    tiny_folder: Path, make_model: MakeModel, quants: Quants
) -> None:
    import torch

    from codejoule.models.placement import Placement
    from codejoule.models.proof import prove_placement

    net = load_local(tiny_folder, make_model(tiny_folder), quants["none"]).model
    with pytest.raises(UserError, match=r"asked for torch\.float16, but .*\(torch\.float32\)"):
        prove_placement(net, dtype=torch.float16, place=Placement(device="cpu"), source="here")
    with pytest.raises(UserError, match="are not on cuda"):
        prove_placement(net, dtype=torch.float32, place=Placement(device="cuda"), source="here")


def test_a_device_too_small_for_the_weights_is_told(
    tiny_architecture: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from codejoule.models.quantization import packed

    def full(*args: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.00 GiB.\nmore")

    monkeypatch.setattr(packed, "materialize", full)
    model = ModelConfig(name="tiny", weights=Weights.random, architecture=tiny_architecture)
    quant = QuantConfig(name="gptq8", method=Method.gptq, bits=8)
    found = locate_checkpoint(model, quant, cache_dir=Path("unused"))
    with pytest.raises(UserError) as caught:
        load_model(found, model, quant, device="cpu")
    text = str(caught.value)
    assert text.startswith("random: the weights do not fit into the memory of cpu")
    assert "Tried to allocate 4.00 GiB" in text
    assert "quant=gptq4, a smaller model or a larger device" in text
    assert "\n" not in text


def test_loading_says_nothing_on_stdout_or_stderr(
    tiny_folder: Path,
    quantized: Callable[[str], Path],
    make_model: MakeModel,
    quants: Quants,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = quantized("gptq4")
    capfd.readouterr()
    load_local(tiny_folder, make_model(tiny_folder), quants["none"])
    load_local(folder, make_model(folder), quants["gptq4"])
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_libraries_are_prepared_whole_before_a_model_is_loaded(tiny_folder: Path) -> None:
    """The energy of loading is that of the model, and the first job's no larger than others'."""
    code = f"""
import sys
from codejoule.config.schema import ModelConfig, QuantConfig, Weights
from codejoule.models import load_model, locate_checkpoint, prepare_libraries
model = ModelConfig(name="tiny", weights=Weights.local, path={str(tiny_folder)!r}, cpu_threads=1)
quant = prepare_libraries(model, QuantConfig(name="none"), device="cpu")
before = set(sys.modules)
load_model(locate_checkpoint(model, quant, cache_dir={str(tiny_folder)!r}), model, quant, device="cpu")
print(len(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # What this architecture alone needs; it was 1,700 when half of transformers was missing.
    assert int(done.stdout) < 100
