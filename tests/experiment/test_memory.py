"""What a run is predicted to take is compared with what is free, before anything is loaded."""

import csv
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir

from codejoule.config import ConfigError, UserError, checkout, conf_folder
from codejoule.config.compose import register_schemas
from codejoule.config.typed import to_experiment
from codejoule.domain import Architecture, Quantization, Workload
from codejoule.estimate import bytes_by_layer, memory_needed, place_layers, weight_bytes
from codejoule.experiment import memory as memory_module
from codejoule.experiment import plan
from codejoule.experiment.generation_stage import generate
from codejoule.experiment.memory import place, place_on_fewest
from codejoule.experiment.plan import Plan, make_plan
from codejoule.measurement import Gpu, Hardware, RaplStatus

GIB = 2**30
H100 = Gpu(
    index=0, name="NVIDIA H100", uuid="GPU-1", memory_bytes=80 * GIB, driver="1",
    energy_counter=True, mig=False,
)  # fmt: skip
TWO = Hardware(
    gpus=(H100, replace(H100, index=1)), hidden_gpus=(), gpu_problem=None,
    rapl=RaplStatus(readable=False), cpu_model="x", cpu_cores=1, cpu_threads=1,
)  # fmt: skip
MODELS = ("qwen_0_5b", "qwen_14b", "llama_8b", "deepseek_coder_16b")
QUANTS = (Quantization(), Quantization(method="gptq", bits=4, group_size=64))


def planned(*overrides: str) -> Plan:
    register_schemas()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        experiment = to_experiment(compose("config", ["model.weights=random", *overrides]))
    return make_plan(experiment)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codejoule.experiment.plan.detect_hardware", lambda: TWO)
    monkeypatch.setattr(plan, "choose_device", lambda *_: "cuda")


@cache
def fields(name: str) -> dict[str, Any]:
    file = conf_folder() / "model" / f"{name}.yaml"
    found: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))["architecture"]
    return found


def architecture(name: str) -> Architecture:
    return Architecture.from_config(fields(name))


def workload(name: str, quantization: Quantization, *, batch: int = 8) -> Workload:
    return Workload(
        architecture=architecture(name), quantization=quantization, dtype="float16",
        batch=batch, prompt_tokens=700, new_tokens=1280,
    )  # fmt: skip


def check(job: Plan) -> None:
    memory_module.check_memory(job.experiment, job.memory, job.hardware, device=job.device)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("quantization", QUANTS)
def test_layers_add_up_to_the_whole_model(name: str, quantization: Quantization) -> None:
    shape = architecture(name)
    embedding, layers, head = bytes_by_layer(shape, quantization, dtype="float16")
    whole = weight_bytes(shape, quantization, dtype="float16").total_bytes
    assert embedding + sum(layers) + head == whole
    assert len(layers) == shape.layers


@pytest.mark.parametrize("gpus", [1, 2, 3, 7])
def test_layers_are_dealt_out_in_runs_with_the_least_on_the_fullest_gpu(gpus: int) -> None:
    sizes = [3, 1, 4, 1, 5, 9, 2]
    placed = place_layers(sizes, first_bytes=6, last_bytes=2, gpus=gpus)
    assert list(placed) == sorted(placed)
    assert set(placed) == set(range(gpus))

    def fullest(where: tuple[int, ...]) -> int:
        held = [sum(s for s, g in zip(sizes, where, strict=True) if g == n) for n in range(gpus)]
        held[0] += 6
        held[-1] += 2
        return max(held)

    def every(left: int, gpu: int) -> list[tuple[int, ...]]:
        if left == 0:
            return [()] if gpu == gpus else []
        if gpu == gpus:
            return []
        return [(gpu,) * n + rest for n in range(1, left + 1) for rest in every(left - n, gpu + 1)]

    assert fullest(placed) == min(map(fullest, every(len(sizes), 0)))


def test_more_gpus_than_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 2, the number of layers"):
        place_layers([1, 1], first_bytes=0, last_bytes=0, gpus=3)


@pytest.mark.parametrize("name", MODELS)
def test_every_part_of_a_model_has_a_gpu_and_a_tied_head_lies_with_its_embedding(
    name: str,
) -> None:
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    from codejoule.models.placement import Placement, architecture_config

    work = workload(name, Quantization())
    device_map = place(work, 2).device_map
    assert device_map is not None
    small = architecture_config(fields(name) | {"num_hidden_layers": 2})
    with init_empty_weights():
        net = AutoModelForCausalLM.from_config(small)
    named = [name for name, _ in (*net.named_parameters(), *net.named_buffers())]
    unplaced = [n for n in named if not any(n.startswith(f"{part}.") for part in device_map)]
    assert unplaced == []
    spot = Placement(device="cuda", device_map=device_map).of
    assert spot("model.layers.1.mlp.up_proj") == "cuda:0"
    last = work.architecture.layers - 1
    assert spot(f"model.layers.{last}.mlp") == spot("model.norm") == "cuda:1"
    tied = spot("lm_head.weight") == spot("model.embed_tokens.weight")
    assert tied is work.architecture.tied


def test_as_few_gpus_as_hold_the_model() -> None:
    work = workload("qwen_14b", Quantization(), batch=1)
    assert len(place_on_fewest(work, [80 * GIB] * 4).by_device_bytes) == 1
    assert len(place_on_fewest(work, [24 * GIB] * 4).by_device_bytes) == 2
    assert len(place_on_fewest(work, [12 * GIB] * 4).by_device_bytes) == 3
    assert len(place_on_fewest(work, [1 * GIB] * 2).by_device_bytes) == 2, "all, and still too few"


def test_a_model_that_one_gpu_is_too_small_for_takes_and_meters_two(two_gpus: None) -> None:
    one = planned("model=qwen_14b", "batch=b8")
    assert (one.gpus, one.gpu_name, one.device_map) == ((0,), "NVIDIA H100", None)
    two = planned("model=qwen_14b", "batch=b64", "generation.max_new_tokens=6000")
    assert (two.gpus, two.gpu_name) == ((0, 1), "2 x NVIDIA H100")
    assert two.device_map is not None
    assert set(two.device_map.values()) == {0, 1}
    assert two.fingerprint != one.fingerprint


def test_the_number_of_gpus_can_be_asked_for_and_means_what_it_says(two_gpus: None) -> None:
    assert planned("model=qwen_0_5b", "gpus=2").gpus == (0, 1)
    asked, chosen = planned("model=qwen_0_5b", "gpus=1"), planned("model=qwen_0_5b")
    assert asked.fingerprint == chosen.fingerprint
    with pytest.raises(UserError, match="gpus=3: 2 visible on this machine"):
        planned("model=qwen_0_5b", "gpus=3")
    with pytest.raises(ConfigError, match="gpus=2: device=cpu uses none"):
        planned("model=qwen_0_5b", "gpus=2", "device=cpu")


def test_each_gpu_must_have_room_for_its_part(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = planned("model=qwen_14b", "gpus=2", "batch=b8")
    monkeypatch.setattr(memory_module, "free_bytes", lambda *_: (70 * GIB, 3 * GIB))
    with pytest.raises(UserError, match=r"on GPU 0, where 70\.0 GiB are free; 1.* on GPU 1, where"):
        check(job)
    monkeypatch.setattr(memory_module, "free_bytes", lambda *_: (70 * GIB, 70 * GIB))
    check(job)


def test_what_cannot_fit_is_told_before_it_is_downloaded(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    too_much = ["model=qwen_14b", "model.weights=hub", "batch=b64", "gpus=1",
                "generation.max_new_tokens=6000"]  # fmt: skip
    with pytest.raises(UserError, match=r"GPU 0, where 80\.0 GiB are there .*gpus=2"):
        planned(*too_much)
    with pytest.raises(UserError, match="the hub cannot be reached"):
        planned(*too_much, "preflight=warn")


@pytest.mark.slow
def test_predicted_memory_is_what_an_h200_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Source: benchmarks/models.py on one H200, docs/lab-notes/models.md."""
    big = replace(TWO, gpus=(replace(H100, memory_bytes=140 * GIB),))
    monkeypatch.setattr("codejoule.experiment.plan.detect_hardware", lambda: big)
    monkeypatch.setattr(plan, "choose_device", lambda *_: "cuda")
    golden = checkout() / "tests" / "golden" / "h200_models.csv"
    with golden.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18
    # For a moment random weights of a model with a tied head have both, which is then the peak.
    table_bytes = {("qwen_0_5b", "1"): 151_936 * 896 * 2}
    for row in rows:
        job = planned(
            f"model={row['model']}", f"quant={row['quant']}", f"batch=b{row['batch']}",
            f"model.dtype={row['dtype']}", "generation.max_new_tokens=128",
            f"suite.limit={32 if row['batch'] == '32' else 2}",
        )  # fmt: skip
        assert job.memory is not None
        peak_bytes = float(row["memory_peak_bytes"])
        table = table_bytes.get((row["model"], row["batch"]), 0)
        memory = job.memory
        weights_bytes = memory_needed(memory.workload).weights_bytes
        wanted = weights_bytes + table if table else sum(memory.by_device_bytes)
        assert wanted == pytest.approx(peak_bytes, rel=0.02), row


Free = Callable[[float], None]


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Free:
    def install(gib: float) -> None:
        monkeypatch.setattr(memory_module, "free_bytes", lambda *_: (int(gib * GIB),))

    return install


def test_too_little_memory_is_told_with_figures_and_what_helps(free: Free, tmp_path: Path) -> None:
    job = planned("model=qwen_7b", "device=cpu", "batch=b32", "generation.max_new_tokens=128")
    free(30.0)
    with pytest.raises(UserError) as told:
        generate(job, tmp_path)
    text = str(told.value)
    assert text.startswith("model=qwen_7b with quant=none at batch size 32 needs about ")
    assert "on the host, where 30.0 GiB are free" in text
    for part in ("weights 28.4 GiB", "KV cache ", "activations ", "128 new ones"):
        assert part in text
    for remedy in ("use batch.size=", "use quant=gptq4 (", "preflight=warn"):
        assert remedy in text
    assert not list(tmp_path.glob("**/*.safetensors"))


def test_a_smaller_batch_is_named_only_where_it_helps(free: Free, tmp_path: Path) -> None:
    job = planned("model=qwen_7b", "device=cpu", "batch=b32")
    free(5.0)
    with pytest.raises(UserError) as told:
        check(job)
    assert "batch.size" not in str(told.value)
    assert "quant=gptq4" not in str(told.value)


def test_the_check_can_be_made_a_warning(free: Free, caplog: pytest.LogCaptureFixture) -> None:
    job = planned("model=qwen_7b", "device=cpu", "preflight=warn")
    free(1.0)
    with caplog.at_level(logging.WARNING):
        check(job)
    assert "where 1.0 GiB are free" in caplog.text


def test_an_architecture_that_is_not_known_is_said_to_be_unchecked(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Architecture, "from_config", lambda _: (_ for _ in ()).throw(ValueError("no"))
    )
    job = planned("model=qwen_7b", "device=cpu")
    assert job.memory is None
    check(job)
    assert "does not know this architecture" in caplog.text


def test_what_is_free_on_the_host_is_what_its_control_groups_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_module.HostMemory, "available_bytes", lambda _: 5 * GIB)
    assert memory_module.free_bytes("cpu", ()) == (5 * GIB,)
