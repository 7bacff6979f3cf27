"""Kernels on a real GPU, and a model spread over two."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codejoule.config import ConfigError, UserError, checkout
from codejoule.config.schema import Dtype, Method, ModelConfig, QuantConfig, Weights
from codejoule.domain import Architecture, Quantization, Workload
from codejoule.experiment.memory import place
from codejoule.models import LoadedModel, load_model, locate_checkpoint, prepare_libraries
from codejoule.models.facts import inspect_layers, sampled_layers
from codejoule.models.placement import Placement
from codejoule.models.quantization import quantizer_of
from codejoule.models.quantization.packed_words import one_in_each_place
from codejoule.models.value_proof import prove_values
from tests.experiment.job import entries_of

SHAPE = {
    "model_type": "qwen2", "vocab_size": 320, "hidden_size": 256, "intermediate_size": 512,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 512, "tie_word_embeddings": False,
}  # fmt: skip
RANDOM = ModelConfig(
    name="tiny", weights=Weights.random, dtype=Dtype.float16, architecture=dict(SHAPE)
)
NONE = QuantConfig(name="none")
PACKED = {
    # Left to gptqmodel it would be Machete on Hopper, which is compiled from sources of the network.
    "gptq8": QuantConfig(name="gptq8", method=Method.gptq, bits=8, kernel="marlin"),
    "gptq4": QuantConfig(name="gptq4", method=Method.gptq, bits=4, kernel="marlin"),
    "awq": QuantConfig(name="awq", method=Method.awq, bits=4, sym=False),
}

pytestmark = [
    pytest.mark.gpu,
    # The first kernel of a machine is compiled for minutes.
    pytest.mark.timeout(600),
]


@pytest.fixture(autouse=True)
def _gpus(request: pytest.FixtureRequest) -> None:
    import torch

    needed = 2 if "two" in request.node.name else 1
    if torch.cuda.device_count() < needed:
        pytest.skip(f"needs {needed} CUDA devices, and {torch.cuda.device_count()} are visible")


def load(
    model: ModelConfig, quant: QuantConfig, device_map: dict[str, int] | None = None
) -> LoadedModel:
    prepare_libraries(model, quant, device="cuda")
    found = locate_checkpoint(model, quant, cache_dir=Path("unused"))
    return load_model(found, model, quant, device="cuda", device_map=device_map)


def logits(loaded: LoadedModel) -> Any:
    import torch

    ids = torch.arange(80, device="cuda:0").reshape(2, 40)
    with torch.inference_mode():
        found = loaded.model(ids).logits.float().cpu()
    assert bool(torch.isfinite(found).all())
    return found


def device_map() -> dict[str, int]:
    work = Workload(
        architecture=Architecture.from_config(SHAPE), quantization=Quantization(),
        dtype="float16", batch=1, prompt_tokens=1, new_tokens=1,
    )  # fmt: skip
    found = place(work, 2).device_map
    assert found is not None
    return dict(found)


@pytest.mark.parametrize("name", PACKED)
def test_a_fast_kernel_computes_what_the_reference_kernel_computes(name: str) -> None:
    """Random bits, laid out by Marlin or its like, against gptqmodel's unpacking kernel."""
    import torch

    fast = load(RANDOM, PACKED[name])
    assert fast.facts.kernel not in (None, "torch", "triton", "gemm_triton")
    reference = load(RANDOM, replace(PACKED[name], kernel="torch"))
    assert reference.facts.kernel == "torch"
    both = [logits(loaded).flatten() for loaded in (fast, reference)]
    assert float(torch.nn.functional.cosine_similarity(*both, dim=0)) > 0.999


CUDA_KERNELS = [
    ("gptq4", "marlin"), ("gptq4", "machete"), ("gptq4", "exllama_v2"), ("gptq4", "triton"),
    ("gptq8", "marlin"), ("gptq8", "machete"), ("gptq8", "triton"),
    ("awq", "marlin"), ("awq", "machete"), ("awq", "exllama_v2"), ("awq", "gemm"),
    ("awq", "gemm_triton"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kernel"), CUDA_KERNELS)
def test_a_kernel_computes_what_is_stored_and_a_zero_point_off_by_one_is_noticed(
    name: str, kernel: str
) -> None:
    import torch

    quant = replace(PACKED[name], kernel=kernel, group_size=128)
    try:
        prepare_libraries(RANDOM, quant, device="cuda")
    except (ConfigError, UserError) as error:
        pytest.skip(f"cannot be used here: {error}")
    net, stored = quantizer_of(quant.method.name).random(
        SHAPE, quant, seed=0, dtype=torch.float16, place=Placement(device="cuda")
    )
    layers = sampled_layers(inspect_layers(net.eval()))

    def prove(tensors: dict[str, Any]) -> list[dict[str, Any]]:
        said = replace(quant, sym=False)  # else symmetry alone would tell
        return prove_values(net, layers, tensors, said, None, dtype=torch.float16, source="here")

    for entry in prove(stored):
        assert entry["relative_error"] < 0.005
        assert entry["zero_points"] >= entry["outputs"]
    assert quant.bits is not None
    one = one_in_each_place(quant.bits)
    off = {
        layer: tensors | {"qzeros": tensors["qzeros"] + one} for layer, tensors in stored.items()
    }
    with pytest.raises(UserError, match=r"as if zero points were off by up to 1\.0"):
        prove(off)


@pytest.mark.parametrize("quant", [NONE, *PACKED.values()], ids=lambda quant: quant.name)
def test_a_random_model_lies_on_two_gpus_and_generates(quant: QuantConfig) -> None:
    loaded = load(RANDOM, quant, device_map())
    assert {layer["device"] for layer in loaded.facts.layers} == {"cuda:0", "cuda:1"}
    assert loaded.facts.device_map == device_map()
    logits(loaded)


def test_a_checkpoint_on_two_gpus_computes_what_it_computes_on_one(tmp_path: Path) -> None:
    import torch

    whole = load(RANDOM, NONE)
    whole.model.save_pretrained(tmp_path)
    whole.tokenizer.save_pretrained(tmp_path)
    model = ModelConfig(name="tiny", weights=Weights.local, path=str(tmp_path), dtype=Dtype.float16)
    one, two = load(model, NONE), load(model, NONE, device_map())
    assert torch.allclose(logits(one), logits(two), atol=1e-3)


def test_a_run_on_two_gpus_meters_both(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, str(checkout() / "src" / "main.py"), "model=qwen_0_5b", "gpus=2",
            "model.weights=random", "suite.limit=4", "batch=b4", "generation.max_new_tokens=64",
            "evaluator=none", "meter.idle_s=2", f"tracking.dir={tmp_path}/mlruns",
            # This process still holds both cards, idle, after the tests above.
            "meter.on_busy_gpu=warn", f"hydra.run.dir={tmp_path}/out",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    entries = entries_of(tmp_path)
    (load_entry,) = [entry["payload"] for entry in entries if entry["kind"] == "load"]
    assert load_entry["meter"]["devices"] == ["gpu:0", "gpu:1"]
    batches = [entry["payload"]["reading"] for entry in entries if entry["kind"] == "batch"]
    for reading in batches:
        by_device_j = reading["energy_by_device_j"]
        assert set(by_device_j) == {"gpu:0", "gpu:1"}
        assert min(by_device_j.values()) > 0
        assert sum(by_device_j.values()) == pytest.approx(reading["energy_j"])
