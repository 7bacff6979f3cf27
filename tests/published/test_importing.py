"""``codejoule import-published``: files in every layout, with invented numbers, in a real store."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from codejoule.analysis import analyse, comparable_groups, load_runs
from codejoule.cli import main
from codejoule.config import UserError
from codejoule.published import FORMATS, PublishedFigure, read_figures

LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 1000,
    "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 8, "max_position_embeddings": 2048,
    "hidden_act": "silu", "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}  # fmt: skip
ROW = {
    "model": "meta-llama/Llama-3.1-8B-Instruct", "card": "H100", "engine": "vllm",
    "quantization": "none", "batch": 8, "energy_per_output_token_j": 0.5,
    "method": "a wattmeter", "source": "an invented paper",
}  # fmt: skip


def write_csv(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


def ml_energy(path: Path) -> Path:
    """A task file of the leaderboard's shape; the last two rows are repeats."""
    row = {
        "model_id": "meta-llama/Llama-3.1-8B-Instruct", "nickname": "Llama", "gpu_model": "H100",
        "num_gpus": 1, "total_params_billions": 8.0, "activated_params_billions": 8.0,
        "architecture": "Dense Transformer", "weight_precision": "bfloat16", "max_num_seqs": 8,
        "tensor_parallel": 1, "expert_parallel": 1, "data_parallel": 1,
        "energy_per_token_joules": 0.6, "energy_per_request_joules": 180.0,
        "avg_output_len": 300.0, "avg_power_watts": 450.0, "median_itl_ms": 8.0,
        "output_throughput_tokens_per_sec": 900.0, "p90_itl_ms": 9.0, "p95_itl_ms": 9.0,
        "p99_itl_ms": 9.0, "avg_batch_size": 7.9,
    }  # fmt: skip
    two = row | {"num_gpus": 2, "tensor_parallel": 2, "weight_precision": "fp8"}
    open_end = row | {"max_num_seqs": None, "avg_batch_size": 63.7}
    again = row | {"max_num_seqs": 16}
    rows = [row, two, open_end, again, again | {"energy_per_token_joules": 0.4}]
    data = {"task": "chat", "task_display_name": "Chat", "configurations": rows}
    path.write_text(json.dumps(data))
    return path


def energy_code_eval(path: Path) -> Path:
    """Batching results of that shape: repeats of an unquantized and of two quantized models."""
    return write_csv(
        path,
        [
            {
                "model": model, "task": "humaneval", "start_time": 1.0, "window_name": "b",
                "elapsed_time": 10.0, "gpu0_energy": joules, "num_in_tokens": 100 * requests,
                "num_out_tokens": 512 * requests, "first_token_time": 0.1, "finished_time": 9.0,
                "mns": 8, "max_tokens": 512, "n_samples": requests, "energy_per_token": 9.9,
            }
            for model, joules in (
                ("mini-coder-1b", 1024.0), ("mini-Coder-1B-AWQ", 512.0), ("mini-coder-1b_8bits64gs_HQQ", 600.0),
            )
            for requests in (1, 2)
        ],
    )  # fmt: skip


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, with_database: Callable[[Path], Path]
) -> Path:
    return with_database(tmp_path_factory.mktemp("published"))


def bring(project: Path, file: Path, experiment: str, *more: str) -> str:
    where = [f"tracking.dir={project}/mlruns", f"tracking.experiment={experiment}"]
    assert main(["import-published", str(file), *where, *more]) == 0
    return f"sqlite:///{project}/mlruns/mlflow.db"


def test_a_task_file_of_the_leaderboard_is_read_with_its_repeats_as_a_mean(tmp_path: Path) -> None:
    layout, reading = read_figures(ml_energy(tmp_path / "chat.json"))
    assert layout.name == "ml_energy"
    one, two, loose, repeated = reading.figures
    assert (one.model, one.card, one.engine) == (ROW["model"], "H100", "vllm")
    assert (one.quantization, one.dtype, one.batch) == ("none", "bfloat16", 8)
    assert one.energy_per_output_token_j == 0.6
    assert (one.output_tokens, one.throughput_tokens_per_s, one.suite) == (300.0, 900.0, "chat")
    assert "steady" in one.method or "all slots" in one.method
    assert (two.quantization, two.cards, two.settings) == ("fp8", 2, "tensor_parallel=2")
    assert loose.batch == 64, "without a limit the batch is what there was"
    assert (repeated.batch, repeated.runs) == (16, 2)
    assert repeated.energy_per_output_token_j == pytest.approx(0.5)


def test_batching_results_of_energy_code_eval_are_means_over_their_repeats(tmp_path: Path) -> None:
    layout, reading = read_figures(energy_code_eval(tmp_path / "batching_combined.csv"))
    assert layout.name == "energy_code_eval"
    plain, awq, hqq = reading.figures
    assert {each.model for each in reading.figures} == {"mini-coder-1b"}
    assert [each.quantization for each in (plain, awq, hqq)] == ["none", "awq", "hqq8"]
    # 1,024 J for one request of 512 tokens, and for two.
    assert plain.energy_per_output_token_j == pytest.approx((2 + 1) / 2)
    assert (plain.runs, plain.prompt_tokens, plain.output_tokens) == (2, 100, 512)
    assert (plain.card, plain.length, plain.settings) == (
        "A100-80GB",
        "fixed",
        "eager max_tokens=512",
    )
    _, other = read_figures(energy_code_eval(tmp_path / "A40_batching_combined.csv"))
    assert other.figures[0].card == "A40"


def test_what_is_imported_says_what_it_is_and_a_second_import_adds_nothing(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[dict[str, object]] = [
        ROW | {"pass_at_1": 0.4, "tasks": 100, "output_tokens": 256, "date": "2026-02-01"},
        ROW | {"batch": 32, "energy_per_output_token_j": 0.2, "prompt_tokens": 100},
        ROW | {"model": "someone/unknown", "batch": 1},
        ROW | {"card": "H100 PCIe", "batch": 1},
    ]
    file = write_csv(tmp_path / "mine.csv", rows)
    uri = bring(project, file, "mine")
    out = capsys.readouterr().out
    assert "4 published runs added to experiment 'mine'" in out
    assert "Mean absolute error of 2 predictions: " in out
    assert "no preset describes the model someone/unknown" in out
    assert "the card H100 PCIe is not on file" in out
    bring(project, file, "mine")
    assert "0 published runs added" in capsys.readouterr().out
    frame = load_runs(uri, "mine").frame
    assert len(frame) == 4
    assert set(frame["tags.codejoule.published"]) == {"true"}
    assert set(frame["tags.codejoule.energy_source"]) == {"published"}
    assert set(frame["tags.codejoule.source"]) == {"an invented paper"}
    first = frame[(frame["params.batch.size"] == "8")].iloc[0]
    assert first["params.model.name"] == "llama_8b", "a preset's name, by the id on the hub"
    assert first["metrics.energy_per_output_token_j"] == 0.5
    assert first["metrics.energy_per_solved_task_j"] == pytest.approx(0.5 * 256 / 0.4)
    assert first["metrics.predicted_energy_per_output_token_j"] > 0
    assert "prompts of 200 tokens assumed" in first["tags.codejoule.prediction"]
    unknown = frame[frame["params.model.name"] == "unknown"].iloc[0]
    assert "metrics.predicted_energy_per_output_token_j" not in unknown.dropna()
    assert "no preset describes" in unknown["tags.codejoule.not_predicted"]
    # What was not printed is absent.
    assert "metrics.energy_generation_j" not in unknown.dropna()


def test_predictions_of_an_earlier_version_are_brought_up_to_date(
    project: Path, tmp_path: Path
) -> None:
    from mlflow.tracking import MlflowClient

    file = write_csv(tmp_path / "mine.csv", [ROW])
    uri = bring(project, file, "again")
    run = load_runs(uri, "again").frame.iloc[0]
    name = "predicted_energy_per_output_token_j"
    MlflowClient(uri).log_metric(run["run_id"], name, 99.0)
    MlflowClient(uri).set_tag(run["run_id"], "codejoule.not_predicted", "was not known then")
    bring(project, file, "again")
    (frame,) = (load_runs(uri, "again").frame,)
    assert list(frame["run_id"]) == [run["run_id"]]
    assert frame.iloc[0][f"metrics.{name}"] == run[f"metrics.{name}"]
    assert "tags.codejoule.not_predicted" not in frame


@pytest.mark.slow
def test_a_model_without_a_preset_is_described_by_its_row_or_by_its_config(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = ROW | {"model": "someone/mini", "architecture": json.dumps(LLAMA)}
    bring(project, write_csv(tmp_path / "row.csv", [row]), "described")
    assert "Mean absolute error of 1 predictions" in capsys.readouterr().out
    config = tmp_path / "config.json"
    config.write_text(json.dumps(LLAMA))
    file = energy_code_eval(tmp_path / "batching_combined.csv")
    bring(project, file, "described", "--architecture", f"mini-coder-1b={config}")
    out = capsys.readouterr().out
    assert "Mean absolute error of 2 predictions" in out
    assert "the quantization hqq8 is none of awq" in out
    assert main(["import-published", str(file), "--architecture", f"else={config}"]) == 2
    assert "the file has no such model; it has mini-coder-1b" in capsys.readouterr().err


def test_published_figures_of_two_sources_and_measured_ones_are_never_in_one_table(
    project: Path, tmp_path: Path
) -> None:
    import pandas as pd

    rows = [ROW, ROW | {"source": "another paper"}]
    uri = bring(project, write_csv(tmp_path / "two.csv", rows), "two")
    loaded = load_runs(uri, "two")
    analysis = analyse(loaded)
    assert len(analysis.groups) == 2
    assert any("published figures of another paper" in g.group.title for g in analysis.groups)
    assert all("tasks" not in g.group.title for g in analysis.groups), "nobody says how many"
    assert {g.answer.sentence for g in analysis.groups} == {
        "No correct program is known. The least energy per token is that of llama_8b none b8: "
        "0.500 J."
    }
    assert all(not len(g.tables["energy_pairs"].frame) for g in analysis.groups)
    assert all(not len(g.tables["run_pairs"].frame) for g in analysis.groups)
    measured = loaded.frame.head(1).assign(
        **{"tags.codejoule.energy_source": "nvml", "tags.codejoule.published": None}
    )
    assert len(comparable_groups(pd.concat([loaded.frame, measured], ignore_index=True))) == 3


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"batch": 0}, "row 1: batch=0: must be at least 1"),
        ({"batch": "eight"}, "row 1: batch='eight': not a number"),
        ({"energy_per_output_token_j": -1}, "row 1: energy_per_output_token_j=-1: must be above 0"),
        ({"energy_per_output_token_j": "nan"}, "must be above 0; leave out what is not known"),
        ({"pass_at_1": 72}, "row 1: pass_at_1=72: a share lies between 0 and 1"),
        ({"source": ""}, "row 1: source missing; every row needs model, card, engine"),
        ({"watts": 3}, "row 1: no such column: watts; the columns are model, card"),
        ({"architecture": "llama"}, "row 1: architecture: the fields of the model's config.json"),
        ({"schema_version": 7}, "schema_version 7, this codejoule reads 1"),
    ],
)
def test_a_faulty_row_is_named(
    row: dict[str, object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_csv(tmp_path / "figures.csv", [ROW | row])
    assert main(["import-published", str(file)]) == 2
    assert said in capsys.readouterr().err


def test_two_rows_of_one_configuration_are_refused(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "figures.csv", [ROW, ROW | {"energy_per_output_token_j": 0.7}])
    with pytest.raises(UserError, match="rows 1 and 2 are of the same configuration"):
        read_figures(file)


def test_a_file_of_no_known_layout_names_those_that_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.json").write_text("{}")
    assert main(["import-published", str(tmp_path / "x.json")]) == 2
    said = capsys.readouterr().err
    assert "no layout that is known" in said
    assert all(each.what in said for each in FORMATS)
    (tmp_path / "x.txt").write_text("")
    assert main(["import-published", str(tmp_path / "x.txt")]) == 2
    assert "a file ending in .csv or .json is expected" in capsys.readouterr().err
    images = {"task": "image", "configurations": [{"energy_per_image_joules": 3.0}]}
    (tmp_path / "image.json").write_text(json.dumps(images))
    assert main(["import-published", str(tmp_path / "image.json")]) == 2
    assert "figures of images and videos have no energy per token" in capsys.readouterr().err


def test_a_figure_survives_being_written_and_read() -> None:
    figure = PublishedFigure.from_row(ROW | {"architecture": LLAMA, "pass_at_1": "0.25"})
    assert figure.pass_at_1 == 0.25
    assert PublishedFigure.from_row(json.loads(figure.as_text())) == figure
