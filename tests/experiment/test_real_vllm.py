"""The real vLLM where it is found: the environment of ``codejoule env vllm``, or the Python that
CODEJOULE_VLLM_PYTHON names."""

import json
from pathlib import Path
from typing import Any

import pytest

from codejoule.config import UserError
from codejoule.generation.vllm.environment import find_vllm
from tests.experiment.job import left_by, run_main, runs_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", autouse=True)
def _vllm() -> None:
    try:
        find_vllm(None)
    except UserError as error:
        pytest.skip(str(error))


def artifacts(folder: Path, *overrides: str) -> Path:
    """What a run on the CPU, judging left out, leaves behind."""
    done = run_main(folder, "device=cpu", "evaluator=none", *overrides)
    assert done.returncode == 0, done.stderr
    (found,) = left_by("codejoule", folder, "")
    return found


def rows(folder: Path, *overrides: str) -> list[dict[str, Any]]:
    file = artifacts(folder, *overrides) / "samples.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_greedy_text_in_float32_is_that_of_generate(tmp_path: Path) -> None:
    suite = ("suite=starter", "batch=b8")
    theirs = rows(tmp_path / "vllm", "engine=vllm", *suite)
    ours = rows(tmp_path / "generate", "engine=generate", *suite)
    assert len(ours) == 63
    assert theirs == ours


def test_a_sampled_run_at_batch_1_is_the_same_again(tmp_path: Path) -> None:
    sample = ("engine=vllm", "generation=sample", "generation.n_samples=2", "suite.limit=8")
    first, second = (rows(tmp_path / name, *sample, "batch=b1") for name in "ab")
    other = rows(tmp_path / "c", *sample, "batch=b1", "generation.seed=1")
    assert len(first) == 16
    assert first == second != other


def test_gptq4_runs_on_a_kernel_of_the_cpu_and_is_proven(tmp_path: Path) -> None:
    chosen = ("engine=vllm", "quant=gptq4", "model.dtype=bfloat16", "batch=b8", "suite.limit=16")
    model = json.loads((artifacts(tmp_path, *chosen) / "model.json").read_text(encoding="utf-8"))
    assert model["proven"] and model["bits"] == 4
    assert model["linear_quantized"] > 0 == model["linear_unquantized"]
    assert "cpu" in model["kernel"]
    (run,) = runs_of("codejoule", tmp_path)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["energy_compile_j"] > 0 < run.data.metrics["memory_peak_bytes"]


def test_fp8_is_refused_on_the_cpu_before_vllm_is_started(tmp_path: Path) -> None:
    done = run_main(tmp_path, "engine=vllm", "quant=fp8", "device=cpu")
    assert done.returncode == 1
    assert "quant=fp8: the CPU has no products of that kind" in done.stderr
