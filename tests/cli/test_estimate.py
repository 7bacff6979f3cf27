"""``codejoule estimate``: real composition, the table, the JSON and the errors."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codejoule.cli import main
from codejoule.config import UserError

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


@pytest.mark.slow
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
        (["gpu=b200"], "gpu=b200: no such choice; did you mean h200? choose one of a100, detected, h100, h200, l40s"),
        (["gpu.memory_bytes=16000000000"], "gpu=detected: no card to read (NVML cannot be used"),
        (["gpu.memory_bytes=16000000000"], "gpu=a100, h100, h200, l40s, rtx_4090"),
        (["gpu=h200", "model=qwen_3b,qwen_8b"], "model=qwen_8b: no such choice"),
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


def test_lists_give_one_table_with_what_takes_least_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lists = ["model=qwen_7b,qwen_14b", "quant=none,gptq4", "batch=b1,b64", "gpu=rtx_4090"]
    assert main(["estimate", *lists]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Predicted for 1,140 tasks, prompts of 660 and answers of 373 tokens;")
    head, *rows = (line.split() for line in out.splitlines()[2:11])
    assert " ".join(head) == "model quant batch gpu memory fits J/token J/task hours kWh"
    assert len({tuple(row[:3]) for row in rows}) == 8
    assert ["qwen_14b", "none", "1", "rtx_4090", "30.6", "GB", "no", *"----"] in rows
    assert (
        "Not predicted for qwen_14b none 1 rtx_4090, qwen_14b none 64 rtx_4090: it needs more "
        "memory than the card has (no batch fits)." in out
    )
    kwh = [float(row[-1].strip("~")) for row in rows if row[6] == "yes"]
    assert kwh == sorted(kwh)
    assert all(row[6] == "no" for row in rows[len(kwh) :])
    assert "everything but memory is an estimate" in out
    assert "take up to twice the predicted time and energy" in out


def test_a_line_of_the_table_is_what_one_configuration_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = ["model=qwen_7b", "quant=gptq4", "gpu=l40s"]
    table = estimated(capsys, *job, "batch=b1,b8")
    assert table["estimate"] is True
    line = table["configurations"][1]
    assert (line["batch"], line["tasks"], line["answer_tokens"]) == (8, 1140, 373)
    answers = [*job, "suite=bigcodebench", "generation.max_new_tokens=373"]
    own = estimated(capsys, *answers, "batch=b8")["generation"]
    last = estimated(capsys, *answers, "batch.size=4")["generation"]
    energy_j = 142 * own["energy_j"] + last["energy_j"]
    assert line["energy_kwh"] == pytest.approx(energy_j / 3.6e6)
    assert line["energy_per_task_j"] == pytest.approx(energy_j / 1140)
    assert line["energy_per_output_token_j"] == pytest.approx(energy_j / 1140 / 373)
    assert line["hours"] == pytest.approx((142 * own["latency_s"] + last["latency_s"]) / 3600)
    # The memory is that of answers as long as the limit: none can be longer.
    most = estimated(capsys, *job, "batch=b8", "suite=bigcodebench")["memory"]["total_bytes"]
    assert line["memory_bytes"] == most


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "tasks", "answer"),
    [
        (["suite=bigcodebench", "quant=none,gptq4"], 1140, 373),
        (["suite=bigcodebench", "quant=none,gptq4", "model.weights=random"], 1140, 1280),
        (["suite=starter", "quant=none,gptq4", "generation.max_new_tokens=50"], 63, 50),
        (["suite=starter", "batch.size=8,64", "suite.limit=5"], 5, 160),
    ],
)
def test_the_table_and_the_plan_predict_the_same_of_the_same_jobs(
    overrides: list[str],
    tasks: int,
    answer: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Random weights never end an answer before its limit; a file here is counted."""
    job = ["model=qwen_7b", "gpu=h200", *overrides]
    table = estimated(capsys, *job)["configurations"]
    assert main(["plan", "--json", *job, f"tracking.dir={tmp_path}"]) == 0
    plan = json.loads(capsys.readouterr().out)["jobs"]
    for line, own in zip(table, plan, strict=True):
        assert (line["tasks"], line["answer_tokens"]) == (own["tasks"], answer) == (tasks, answer)
        assert line["hours"] * 3600 == pytest.approx(own["generation_s"])
        assert line["energy_kwh"] == pytest.approx(own["energy_kwh"])
        assert line["memory_bytes"] == own["memory_bytes"]


def test_a_model_that_cannot_be_had_does_not_end_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise UserError("nobody/nothing: the hub cannot be reached")

    monkeypatch.setattr("codejoule.cli.estimate.forecast.fetch_config", missing)
    table = estimated(capsys, "model=nobody/nothing,qwen_0_5b", "gpu=h200")["configurations"]
    assert table[0]["not_predicted"] == "nobody/nothing: the hub cannot be reached"
    assert table[0]["memory_bytes"] is None and table[1]["energy_kwh"] > 0


def test_what_else_varies_has_a_column_and_what_is_not_known_says_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lists = ["model=qwen_7b", "engine=graph,continuous", "suite=humaneval,mbpp", "gpu=h100"]
    assert main(["estimate", *lists]) == 0
    out = capsys.readouterr().out
    head, *rows = (line.split() for line in out.splitlines()[2:7])
    assert head[:6] == ["model", "quant", "batch", "gpu", "engine", "suite"]
    assert [(row[4], row[-1] == "-") for row in rows] == [
        ("graph", False), ("graph", False), ("continuous", True), ("continuous", True)
    ]  # fmt: skip
    assert (
        "Not predicted for qwen_7b none 1 h100 continuous humaneval, qwen_7b none 1 h100 continuous mbpp: no "
        "measurement of engine=continuous is on file"
    ) in out


@pytest.mark.parametrize(
    ("varied", "columns"),
    [
        ("generation.max_new_tokens=256,1024", {"generation.max_new_tokens": ["256", "1024"]}),
        ("model.dtype=bfloat16,float32", {"model.dtype": ["bfloat16", "float32"]}),
        ("repeat=1,2", {"repeat": ["1", "2"]}),
        ("suite=humaneval,mbpp", {"suite": ["humaneval", "mbpp"]}),
    ],
)
def test_a_key_that_varies_has_a_column_of_its_name(
    varied: str, columns: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    table = estimated(capsys, "model=qwen_0_5b", "gpu=h200", varied)["configurations"]
    of_all = {"model", "quant", "batch", "gpu", "tasks"}
    named = [key for key in table[0] if key not in of_all]
    named = named[: named.index("prompt_tokens")]
    assert {key: [line[key] for line in table] for key in named} == columns


def test_a_file_of_one_s_own_is_counted_and_asked_for_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"task_id": "", "complete_prompt": "def f():\n", "instruct_prompt": "f", "test": "",
           "code_prompt": "", "canonical_solution": "    pass\n", "entry_point": "f", "libs": "[]"}  # fmt: skip
    file = tmp_path / "five.jsonl"
    file.write_text("".join(json.dumps(row | {"task_id": f"t/{i}"}) + "\n" for i in range(5)))
    job = ["model=qwen_0_5b,qwen_7b", "gpu=h200", f"suite.path={file}"]
    assert "its tasks are not starter's" in refused(capsys, *job)
    table = estimated(capsys, *job, "suite.name=five")["configurations"]
    assert [line["tasks"] for line in table] == [5, 5]


def test_without_a_card_a_named_one_is_taken_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    report = estimated(capsys, "model=qwen_7b")
    assert report["gpu"]["name"] == "h200"
    (note,) = report["notes"]
    assert note.startswith("gpu=detected: there is no card here (NVML cannot be used")
    assert note.endswith("so this is for h200. Name another: gpu=a100, h100, h200, l40s, rtx_4090.")
    assert main(["estimate", "model=qwen_7b"]) == 0
    assert note in capsys.readouterr().out


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


def test_time_and_energy_of_a_batch_are_predicted(capsys: pytest.CaptureFixture[str]) -> None:
    job = ["model=qwen_7b", "quant=gptq4", "gpu=l40s", "batch=b8", "suite.prompt_tokens=100"]
    found = estimated(capsys, *job)["generation"]
    assert found["tpot_s"] > estimated(capsys, *job)["decode_bound"]["tpot_s"]
    tokens = 8 * 160
    assert found["tokens_per_s"] == pytest.approx(tokens / found["latency_s"])
    assert found["energy_j"] == pytest.approx(found["mean_power_w"] * found["latency_s"])
    assert found["energy_per_token_j"] == pytest.approx(found["energy_j"] / tokens)
    assert found["idle_power_assumed"] is True
    assert estimated(capsys, *job, "gpu=h200")["generation"]["idle_power_assumed"] is False
    assert main(["estimate", *job]) == 0
    out = capsys.readouterr().out
    for word in ("TTFT", "TPOT", "tokens/s", "energy per task", "idle power assumed"):
        assert word in out
    assert "engine=generate as calibrated with 36 runs on H200s, 28 of them unquantized" in out


def test_a_card_without_a_peak_has_no_time_and_says_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = estimated(capsys, "gpu.memory_bytes=16000000000", "gpu.bandwidth_bytes_per_s=3e11")
    assert report["generation"] is None
    assert "peak rate in this dtype is not known" in report["calibration"]


def test_the_thesis_equations_give_the_thesis_figures(
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = ["model=qwen_7b", "quant=gptq4", "gpu=l40s", "suite=bigcodebench",
           "generation.max_new_tokens=660", "suite.prompt_tokens=660"]  # fmt: skip
    assert main(["estimate", "--thesis", "--json", *job]) == 0
    figures = json.loads(capsys.readouterr().out)
    # Table 5.35: 2.31 TFLOP, 0.0035 TB, 0.0072 s, 0.0041 s, 2.68 s, 3.50 GB.
    expected = {
        "prefill_compute": (2.31e12, 0.01e12), "decode_memory": (0.0035e12, 0.0001e12),
        "ttft": (0.0072, 0.0001), "tpot": (0.0041, 0.0001), "tgt_as_tabled": (2.68, 0.01),
        "vram": (3.5e9, 0.01e9),
    }  # fmt: skip
    for name, (value, unit) in expected.items():
        assert figures[name]["value"] == pytest.approx(value, abs=unit)
    assert figures["tgt"]["value"] > figures["tgt_as_tabled"]["value"]
    assert figures["parameters_by_equation"]["value"] > 1e17
    assert main(["estimate", "--thesis", "model=deepseek_coder_16b", "gpu=l40s"]) == 0
    assert "eq. 3.33" in capsys.readouterr().out


def test_the_thesis_tables_and_checks_are_written_and_stdout_stays_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = ["model=qwen_7b", "gpu=l40s", "--thesis", "--json", "--out", str(tmp_path)]
    assert main(["estimate", *job]) == 0
    assert json.loads(capsys.readouterr().out)
    lines = {path.name: path.read_text().splitlines() for path in tmp_path.glob("*.csv")}
    assert len(lines["tables.csv"]) == 1 + 43
    assert len(lines["figure_checks.csv"]) == 1 + 8


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--out", "x"], "--out writes the thesis' tables: it goes with --thesis"),
        (["--thesis", "batch=b1,b8"], "--thesis: its equations are for one configuration"),
        (["--thesis", "--calibrate", "x"], "--calibrate: the thesis' equations have nothing"),
        (["--tracking-uri", "x"], "--tracking-uri says where --calibrate EXPERIMENT is"),
        (["--thesis", "quant=bnb_nf4"], "quant=bnb_nf4: the thesis has none, gptq8, awq, gptq4"),
        (["--calibrate", "x", "--tracking-uri", "sqlite:////nowhere/mlflow.db"], "no runs yet"),
    ],
)
def test_flags_that_do_not_go_together_are_one_message(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text in refused(capsys, "gpu=h200", "model=qwen_7b", *arguments)


@pytest.mark.slow
def test_own_runs_calibrate_the_estimate(
    tracking_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two runs that a slower host made; an estimate's and a shortened model's are left out."""
    from codejoule.config.schema import TrackingConfig
    from codejoule.tracking import prepare_store

    tracking = TrackingConfig(dir=str(tracking_folder), experiment="mine")
    store = prepare_store(tracking)
    job = ["model=qwen_7b", "gpu=h200", "suite.prompt_tokens=100", "generation.max_new_tokens=50",
           "model.dtype=bfloat16"]  # fmt: skip
    for number, source in enumerate(("nvml", "nvml", "estimate", "nvml")):
        own = {
            "codejoule.gpu": "NVIDIA H200", "codejoule.energy_source": source,
            "codejoule.dtype": "bfloat16", "codejoule.energy_scope": "gpu",
            "codejoule.fingerprint": str(number),
        }  # fmt: skip
        params = {
            "model.name": "qwen_7b", "quant.name": "none", "batch.size": 4,
            "engine.name": "generate", "repeat": number,
            "model.architecture.num_hidden_layers": 1 if number == 3 else 28,
        }  # fmt: skip
        run = store.start_run(name="run", parent_run_id=None, tags=own, params=params)
        # 8 tasks in 2 batches of 50 steps of 0.14 s, at 150 W.
        run.log(metrics={
            "tasks": 8, "prompt_tokens": 800, "output_tokens": 400, "latency_s": 14.0,
            "energy_gpu_j": 2100.0,
        })  # fmt: skip
        run.finish("FINISHED")
    uri = f"sqlite:///{tracking_folder}/mlflow.db"
    assert (
        main(["estimate", "--json", "--calibrate", "mine", "--tracking-uri", uri, *job, "batch=b4"])
        == 0
    )
    report = json.loads(capsys.readouterr().out)
    assert report["calibration"].endswith("2 runs of experiment mine")
    assert report["generation"]["latency_s"] == pytest.approx(7.0, rel=0.05)
    assert report["generation"]["mean_power_w"] == pytest.approx(150, rel=0.05)
    # What it has learnt holds for another model: 24 of 28 layers.
    args = ["--json", "--calibrate", "mine", "--tracking-uri", uri, *job[1:], "model=qwen_0_5b"]
    assert main(["estimate", *args]) == 0
    small = json.loads(capsys.readouterr().out)["generation"]
    assert small["latency_s"] == pytest.approx(7.0 * 24 / 28, rel=0.05)
    assert main(["estimate", "--calibrate", "mine", "--tracking-uri", uri, *job,
                 "quant=gptq4", "batch=b1"]) == 0  # fmt: skip


def test_an_unknown_flag_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["estimate", "gpu=h200", "--speed"])
    assert stopped.value.code == 2
    assert "unrecognized arguments: --speed" in capsys.readouterr().err
