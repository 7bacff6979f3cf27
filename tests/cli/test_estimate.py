"""``codejoule estimate``: real composition, the table, the JSON and the errors."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codejoule.cli import main

pytestmark = pytest.mark.usefixtures("no_gpu")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without NVIDIA's driver, whatever this one has."""
    import pynvml

    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)


def estimated(capsys: pytest.CaptureFixture[str], *overrides: str) -> dict[str, Any]:
    assert main(["estimate", "--json", *overrides]) == 0
    loaded: dict[str, Any] = json.loads(capsys.readouterr().out)
    return loaded


def refused(capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    assert main(["estimate", *overrides]) == 2
    return capsys.readouterr().err


def test_the_contract_s_example_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "model=qwen_7b", "quant=gptq4", "gpu=h200", "batch=b8"]) == 0
    out = capsys.readouterr().out
    assert "7,615,616,512" in out
    assert "57,344 bytes per token x 424 tokens x 8" in out
    assert "decoding: a bound, no engine reaches it" in out
    assert "Fits on h200; the largest batch that does is" in out


def test_json_has_the_same_figures_with_units_in_their_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = estimated(capsys, "model=qwen_7b", "quant=gptq4", "gpu=h200", "batch=b8")
    assert report["parameters"]["total"] == 7_615_616_512
    assert report["kv_cache_bytes_per_token"] == 57_344
    memory = report["memory"]
    assert memory["total_bytes"] == sum(v for k, v in memory.items() if k != "total_bytes")
    bound = report["decode_bound"]
    read = bound["weights_read_bytes"] + bound["kv_cache_read_bytes"]
    assert bound["memory_s"] == pytest.approx(read / 4.8e12)
    assert bound["tokens_per_s"] == pytest.approx(8 / bound["tpot_s"])
    assert report["fits"] is True
    assert report["would_fit_with"] == []


def test_keys_of_a_job_mean_the_same_here(capsys: pytest.CaptureFixture[str]) -> None:
    report = estimated(
        capsys,
        "model=llama_8b",
        "gpu=a100",
        "batch.size=3",
        "suite=humaneval",
        "suite.prompt_tokens=100",
        "generation.max_new_tokens=29",
        "model.dtype=float32",
    )
    assert (report["batch"], report["prompt_tokens"], report["new_tokens"]) == (3, 100, 29)
    assert report["dtype"] == "float32"
    assert report["memory"]["kv_cache_bytes"] == 3 * 128 * 2 * 32 * 8 * 128 * 4
    assert report["decode_bound"]["compute_s"] is None


def test_what_would_fit_is_named_and_does_fit(capsys: pytest.CaptureFixture[str]) -> None:
    job = ["model=qwen_14b", "suite=bigcodebench", "batch=b64"]
    report = estimated(capsys, *job, "gpu=l40s")
    assert report["fits"] is False
    batch, quants, cards = report["would_fit_with"]
    assert batch == f"batch.size={report['largest_batch']} (or less)"
    assert "gptq4" in quants
    assert "h100" in cards
    assert "rtx_4090" not in cards
    for change in (f"batch.size={report['largest_batch']}", "quant=gptq4", "gpu=h100"):
        assert estimated(capsys, *job, "gpu=l40s", change)["fits"] is True
    assert main(["estimate", *job, "gpu=l40s"]) == 0
    assert "Does not fit on l40s by" in capsys.readouterr().out


def test_experts_read_grow_with_the_batch_up_to_all(capsys: pytest.CaptureFixture[str]) -> None:
    job = ("model=deepseek_coder_16b", "gpu=h200")
    one, many = estimated(capsys, *job), estimated(capsys, *job, "batch=b64")
    assert one["decode_bound"]["experts_read"] == pytest.approx(6)
    assert 63 < many["decode_bound"]["experts_read"] < 64
    active = 2 * one["parameters"]["active"]
    assert one["decode_bound"]["weights_read_bytes"] == pytest.approx(active, rel=1e-3)


def test_one_new_token_has_no_time_per_further_token(capsys: pytest.CaptureFixture[str]) -> None:
    report = estimated(capsys, "gpu=h200", "generation.max_new_tokens=1")
    assert report["decode_bound"] is None


def test_a_checkpoint_s_folder_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(__file__).parents[2] / "src/codejoule/models/starter/none"
    here = estimated(capsys, "model.weights=local", f"model.path={folder}", "gpu=h200")
    assert here["parameters"] == estimated(capsys, "gpu=h200")["parameters"]


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["gpu=b200"], "gpu=b200: no such choice; choose one of a100, detected, h100, h200, l40s"),
        ([], "gpu=detected: no card to read (NVML cannot be used"),
        (["gpu=detected"], "gpu=a100, h100, h200, l40s, rtx_4090"),
        (["gpu=h200", "model=qwen_3b,qwen_7b"], "model=qwen_3b,qwen_7b: several values are a sweep"),
        (["gpu=h200", "gpu.memory_bytes=null"], "gpu.memory_bytes=null: only gpu=detected"),
        (["gpu=h200", "gpu.bandwidth_bytes_per_s=0"], "gpu.bandwidth_bytes_per_s=0.0: must be above"),
        (["gpu=h200", "suite.prompt_tokens=0"], "suite.prompt_tokens=0: must be at least 1"),
        (["gpu=h200", "modle=qwen_7b"], "modle=qwen_7b: no such key; did you mean model?"),
        (
            ["gpu=h200", "model=deepseek_coder_16b", "quant=gptq4", "quant.group_size=128"],
            "quant.group_size=128: intermediate_size=10944",
        ),
        (
            ["gpu=h200", "model=qwen_7b", "model.architecture.model_type=gpt2"],
            "model=qwen_7b: model_type=gpt2: its layers are not known to the estimator",
        ),
    ],
)  # fmt: skip
def test_wrong_input_is_one_message(
    overrides: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text in refused(capsys, *overrides)


def test_figures_of_a_card_that_is_not_on_file_can_be_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = estimated(capsys, "gpu.memory_bytes=16000000000", "gpu.bandwidth_bytes_per_s=3e11")
    assert report["gpu"]["memory_bytes"] == 16_000_000_000
    assert report["decode_bound"]["compute_s"] is None


def test_a_detected_card_is_read_from_its_driver(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pynvml

    # What NVML says of an A100 SXM with 80 GB.
    said = {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": "handle",
        "nvmlDeviceGetName": "NVIDIA A100-SXM4-80GB",
        "nvmlDeviceGetUUID": "GPU-0",
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=85_899_345_920),
        "nvmlSystemGetDriverVersion": "580.95.05",
        "nvmlDeviceGetTotalEnergyConsumption": 1,
        "nvmlDeviceGetMigMode": (0, 0),
        "nvmlDeviceGetMaxClockInfo": 1593,
        "nvmlDeviceGetMemoryBusWidth": 5120,
        "nvmlDeviceGetPowerManagementDefaultLimit": 400_000,
    }
    for name, answer in said.items():
        monkeypatch.setattr(pynvml, name, lambda *_, answer=answer: answer)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    card = estimated(capsys, "model=qwen_7b")["gpu"]
    assert card["name"] == "NVIDIA A100-SXM4-80GB"
    on_file = estimated(capsys, "model=qwen_7b", "gpu=a100")["gpu"]
    for key in ("memory_bytes", "bandwidth_bytes_per_s", "power_limit_w"):
        assert card[key] == pytest.approx(on_file[key], rel=1e-3)
    # What NVML does not tell comes from the file of the card that the driver calls so.
    assert card["peak_float16_flop_per_s"] == on_file["peak_float16_flop_per_s"] == 312e12
    given = estimated(capsys, "model=qwen_7b", "gpu.memory_bytes=7000000000")["gpu"]
    assert given["memory_bytes"] == 7_000_000_000
    assert given["bandwidth_bytes_per_s"] == card["bandwidth_bytes_per_s"]


def test_an_unknown_flag_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["estimate", "gpu=h200", "--thesis"])
    assert stopped.value.code == 2
    assert "unrecognized arguments: --thesis" in capsys.readouterr().err
