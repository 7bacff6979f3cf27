"""Which kernels there are, which a run accepts, and what is said of the others."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from codejoule.config import ConfigError, UserError
from codejoule.config.schema import Device, Method, ModelConfig, QuantConfig, Weights
from codejoule.models import check_model_config, load_model, locate_checkpoint
from codejoule.models.quantization import quantizer_of
from codejoule.models.quantization.packed import PackedQuantizer

GPTQ4 = QuantConfig(name="gptq4", method=Method.gptq, bits=4)
AWQ = QuantConfig(name="awq", method=Method.awq, bits=4, sym=False)


def accepted_kernels(quant: QuantConfig, device: str) -> dict[str, str]:
    kernels = quantizer_of(quant.method.name).accepted_kernels(quant, device)
    return {kernel.kind: kernel.name for kernel in kernels}


def build_kernels(quant: QuantConfig, **options: Any) -> str:
    quantizer = quantizer_of(quant.method.name)
    assert isinstance(quantizer, PackedQuantizer)
    return quantizer.build_kernels(quant, **options)


@pytest.fixture
def random_tiny(tiny_architecture: dict[str, Any]) -> ModelConfig:
    return ModelConfig(
        name="tiny", weights=Weights.random, architecture=tiny_architecture, cpu_threads=1
    )


def load(model: ModelConfig, quant: QuantConfig) -> Any:
    found = locate_checkpoint(model, quant, cache_dir=Path("unused"))
    return load_model(found, model, quant, device="cpu")


@pytest.mark.parametrize(("quant", "layout"), [(GPTQ4, "gptq"), (AWQ, "gemm")])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_kernels_are_those_that_gptqmodel_has_in_its_order(
    quant: QuantConfig, layout: str, device: str
) -> None:
    from gptqmodel.models._const import DEVICE
    from gptqmodel.quantization import FORMAT, METHOD
    from gptqmodel.utils.importer import AUTO_BACKEND_KERNEL_MAPPING, get_kernel_for_backend

    method = METHOD(quant.method.name)
    here = (DEVICE.ALL, DEVICE(device))
    theirs = [
        (backend.value.removeprefix(f"{method.value}_"), kind.__name__)
        for backend, kind in AUTO_BACKEND_KERNEL_MAPPING[method][FORMAT(layout)].items()
        if any(place in here for place in kind.SUPPORTS_DEVICES)
    ]
    accepted = accepted_kernels(quant, device)
    slow = accepted_kernels(dataclasses.replace(quant, kernel="torch"), device)
    # bitblas needs a library of its own; torch_int8 is never the library's own choice.
    ours = [(name, kind) for kind, name in (accepted | slow).items() if name != "torch_int8"]
    assert ours == [pair for pair in theirs if pair[0] != "bitblas"]
    assert "torch" not in accepted.values()
    for kind, name in accepted.items():
        backend = f"{method.value}_{name}"
        assert get_kernel_for_backend(backend, method, FORMAT(layout)).__name__ == kind


@pytest.mark.parametrize("quant", [GPTQ4, AWQ])
@pytest.mark.parametrize("name", ["torch_aten", "torch_fused", "torch_int8", "torch"])
def test_each_kernel_of_the_cpu_can_be_chosen_and_is_recorded(
    quant: QuantConfig, name: str, random_tiny: ModelConfig
) -> None:
    loaded = load(random_tiny, dataclasses.replace(quant, kernel=name))
    assert loaded.facts.kernel == name
    # gptqmodel compiles one of them at its first call, which takes 15 s.
    with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
        assert torch.isfinite(loaded.model(torch.arange(20)[None]).logits).all()


@pytest.mark.slow
def test_the_kernel_that_is_compiled_answers_as_it_does_uncompiled(
    random_tiny: ModelConfig,
) -> None:
    loaded = load(random_tiny, dataclasses.replace(GPTQ4, kernel="torch"))
    with torch.inference_mode():
        compiled = loaded.model(torch.arange(20)[None]).logits
        with torch.compiler.set_stance("force_eager"):
            plain = loaded.model(torch.arange(20)[None]).logits
    torch.testing.assert_close(compiled, plain, atol=1e-2, rtol=1e-2)


@pytest.mark.slow
def test_a_kernel_chosen_for_a_checkpoint_is_the_one_that_runs(
    quantized: Callable[..., Path],
    make_model: Callable[..., ModelConfig],
    quants: dict[str, QuantConfig],
) -> None:
    folder = quantized("awq")
    chosen = dataclasses.replace(quants["awq"], kernel="torch_fused")
    facts = load(make_model(folder), chosen).facts
    assert facts.kernel == "torch_fused"
    assert facts.kernels == {"TorchFusedAwqLinear": 14, "Linear": 1}


@pytest.mark.parametrize(
    ("quant", "kernel", "device", "words"),
    [
        (GPTQ4, "marlinn", Device.auto, ["on cuda: auto, swordfish, machete, marlin", "on cpu"]),
        (GPTQ4, "gemm", Device.cuda, ["quant.kernel=gemm", "no such kernel for quant=gptq4"]),
        (GPTQ4, "marlin", Device.cpu, ["on cpu: auto, torch_aten, torch_fused, torch_int8, torch"]),
        (AWQ, "triton", Device.cuda, ["marlin, exllama_v2, gemm, gemm_triton, torch"]),
        (QuantConfig(name="none"), "marlin", Device.auto, ["quant=none", "choose auto"]),
    ],
)
def test_a_kernel_that_there_is_not_is_refused_with_the_choices(
    quant: QuantConfig, kernel: str, device: Device, words: list[str]
) -> None:
    model = ModelConfig(name="q", id="q/q")
    with pytest.raises(ConfigError) as caught:
        check_model_config(model, dataclasses.replace(quant, kernel=kernel), device=device)
    for word in words:
        assert word in str(caught.value)


def test_a_kernel_that_lacks_the_bits_is_refused_with_the_choices(random_tiny: ModelConfig) -> None:
    quant = QuantConfig(name="gptq8", method=Method.gptq, bits=8, kernel="torch_aten")
    with pytest.raises(ConfigError, match=r"torch_aten with quant=gptq8 on cpu: cannot be used"):
        load(random_tiny, quant)


def test_the_librarys_fallback_is_an_error_before_anything_runs(
    random_tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear

    monkeypatch.setattr(PackedQuantizer, "select_kernel", lambda *args: TorchLinear)
    with pytest.raises(UserError) as caught:
        load(random_tiny, GPTQ4)
    text = str(caught.value)
    assert "14 layers run on TorchLinear: model.layers.0.self_attn.q_proj" in text
    assert "quant.kernel=auto accepts torch_aten, torch_fused, torch_int8 on cpu" in text
    assert "quant.kernel=torch" in text


def test_a_kernel_that_cannot_be_built_is_told_with_what_it_needs(
    random_tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gptqmodel.nn_modules.qlinear.torch_aten_kernel import TorchAtenLinear

    def broken(self: object) -> None:
        raise ModuleNotFoundError("Marlin torch.ops kernels are not properly installed.\nmore")

    monkeypatch.setattr(TorchAtenLinear, "post_init", broken)
    with pytest.raises(UserError) as caught:
        load(random_tiny, GPTQ4)
    assert "the kernel TorchAtenLinear cannot be used here (ModuleNotFoundError" in str(
        caught.value
    )
    assert "nvcc" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kernels that were tried, of which only Marlin can be built."""
    tried: list[str] = []

    def build(_self: object, quant: QuantConfig, **_: object) -> None:
        tried.append(quant.kernel)
        if quant.kernel != "marlin":
            raise UserError(f"no {quant.kernel} here")

    monkeypatch.setattr(PackedQuantizer, "build_kernel", build)
    return tried


def test_auto_takes_the_first_kernel_that_can_be_built(builds: list[str]) -> None:
    import torch

    assert build_kernels(GPTQ4, dtype=torch.float16, device="cuda") == "marlin"
    assert builds == ["swordfish", "machete", "marlin"]


def test_a_kernel_that_was_asked_for_is_never_another(builds: list[str]) -> None:
    import torch

    machete = dataclasses.replace(GPTQ4, kernel="machete")
    with pytest.raises(UserError, match="no machete here"):
        build_kernels(machete, dtype=torch.float16, device="cuda")
    assert builds == ["machete"]


def test_without_any_kernel_auto_says_why_each_cannot_be_used(builds: list[str]) -> None:
    import torch

    with pytest.raises(UserError, match=r"on cpu \(torch_aten: no torch_aten here; torch_fused:"):
        build_kernels(GPTQ4, dtype=torch.float16, device="cpu")
    assert "torch" not in builds  # the fallback is only for those who ask for it


def test_compiling_a_kernel_is_told_with_its_time_and_the_place_where_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from gptqmodel.utils import cpp

    monkeypatch.setenv("GPTQMODEL_TORCH_EXTENSIONS_DIR", str(tmp_path))
    source = tmp_path / "kernel.cpp"
    source.write_text("int none;")
    marlin = cpp.TorchOpsJitExtension(
        name="gptqmodel_marlin_bf16_ops",
        namespace="nothing_of_ours",
        required_ops=("none",),
        sources=[str(source)],
        build_root_env=None,
        default_build_root=lambda: cpp.default_torch_ops_build_root("marlin"),
        display_name="Marlin bf16",
    )
    compiled: list[str] = []
    # The compiler and Marlin itself are what is missing here.
    monkeypatch.setattr(cpp, "load", lambda **options: compiled.append(options["name"]))
    monkeypatch.setattr(PackedQuantizer, "build_kernel", lambda *_, **__: marlin.load())
    for _ in range(2):
        build_kernels(GPTQ4, dtype=torch.bfloat16, device="cuda")
    assert compiled == ["gptqmodel_marlin_bf16_ops"]
    (said,) = caplog.messages
    assert "Compiling extension: Marlin bf16 (about 3 min, once per machine" in said
    assert f"kept in {tmp_path})" in said
