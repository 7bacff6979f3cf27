"""Every wrong configuration ends in one message that names key, value and choices."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from codejoule.config import ConfigError
from codejoule.config.compose import compose_experiment
from codejoule.config.explain import _quoted
from tests import warm

ROOT = Path(__file__).resolve().parents[2]

WRONG = {
    # unknown choices and groups
    "quant=gptq3": "quant=gptq3: no such choice; did you mean gptq4 or gptq8? choose one of awq, bnb_int8, bnb_nf4, fp8, fp8_block, fp8_dynamic, gguf, gptq4, gptq8, mxfp4, none, nvfp4, torchao_int8, w4a16, w8a8",
    "model=gpt5": "model=gpt5: no such choice; choose one of deepseek_coder_16b, gpt_oss_20b, llama_1b, ",
    "batch=b3": "batch=b3: no such choice; choose one of b1, b4, b8, b16, b32, b64, b128, or any size: batch.size=3",
    "batch=8": "batch=8: a choice is a name; choose one of b1, b4, b8, b16, b32, b64, b128, or any size: batch.size=8",
    "+experiment=nothing": "experiment=nothing: no such choice; choose one of engines, frontier, showpiece, smoke, thesis_awq, thesis_batch_size, thesis_finetuning, thesis_gptq, thesis_granularity, thesis_model_size",
    "modle=qwen_7b": "modle=qwen_7b: no such key; did you mean model?",
    # unknown keys
    "model.pth=x": "model.pth=x: no such key; did you mean model.path?",
    "suite.limits=3": "suite.limits=3: no such key; did you mean suite.limit?",
    "+temperature=1": "temperature: no such key; the configuration has ",
    "+batch.sise=1": "batch.sise: no such key; batch has size",
    # thinking
    "generation.thinking=hard": "generation.thinking=hard: no such choice; choose one of off, on, budget",
    "generation.thinking=budget": "generation.thinking_tokens=null: generation.thinking=budget needs a number of tokens",
    "generation.thinking_tokens=9": "generation.thinking_tokens=9: generation.thinking=off has no budget; leave it null, or choose generation.thinking=budget",
    "model=qwen_7b_base generation.thinking=on": "generation.thinking=on: model=qwen_7b_base is a base model",
    "model=qwen3_8b model.weights=random generation.thinking=on": "generation.thinking=on: model.weights=random thinks nothing",
    "model=qwen3_8b generation.stop=complete generation.thinking=on": "generation.thinking=on: generation.stop=complete reads an answer that was begun",
    "model=qwen3_8b engine=graph generation.thinking=budget generation.thinking_tokens=9": "generation.thinking=budget: engine=graph cannot do that; choose engine=generate or engine=static, or generation.thinking=off",
    "model=qwen3_8b engine=server engine.url=http://127.0.0.1:1/v1 generation.thinking=on": "generation.thinking=on: engine=server cannot do that",
    "model=qwen3_8b generation.max_new_tokens=64 generation.thinking=budget generation.thinking_tokens=64": "generation.thinking_tokens=64: the limit on new tokens, 64, leaves no room for an answer",
    # methods that an engine has not
    "model=gpt_oss_20b quant=mxfp4": "engine.name=generate: engine=generate has no mxfp4 of a mixture of experts; choose a quant of none, gptq, or engine=vllm",
    "engine=vllm quant=bnb_nf4": "engine.name=vllm: engine=vllm has no bnb; choose a quant of none, gptq, awq, fp8, fp8_block, w4a16, w8a8, fp8_dynamic, mxfp4, nvfp4, or engine=generate or engine=static",
    "model=qwen3_coder_30b engine=graph quant=fp8": "engine.name=graph: engine=graph has no fp8 of a mixture of experts; choose a quant of none, gptq, or engine=vllm",
    # wrong types
    "batch.size=many": "batch.size=many: must be a whole number",
    "batch.size=1.5": "batch.size=1.5: must be a whole number",
    "batch.size=null": "batch.size=null: ",
    "suite.task_ids=7": "suite.task_ids=7: ",
    "device=tpu": "device=tpu: no such choice; choose one of auto, cpu, cuda",
    "model.weights=torrent": "model.weights=torrent: no such choice; choose one of hub, local, random, bundled",
    "on_finished=ask": "on_finished=ask: no such choice; choose one of skip, rerun",
    "on_other_gpu=mix": "on_other_gpu=mix: no such choice; choose one of fail, anew",
    "tracking.lease_s=0.5": "tracking.lease_s=0.5: must be at least 1 [s]",
    # values out of range
    "batch.size=-1": "batch.size=-1: prompts decoded together; must be at least 1",
    "suite.limit=0": "suite.limit=0: a run needs at least 1 task; use null for the whole suite",
    "suite.task_ids=[]": "suite.task_ids=[]: an empty list selects nothing",
    "repeat=0": "repeat=0: must be at least 1",
    "generation.max_new_tokens=0": "generation.max_new_tokens=0: must be at least 1",
    "meter.cpu_watts_per_core=0": "meter.cpu_watts_per_core=0.0: must be above 0 [W]",
    "meter.cpu_watts_per_core=inf": "meter.cpu_watts_per_core=inf: must be a finite number",
    "carbon.pue=0.9": "carbon.pue=0.9: power usage effectiveness is total over IT energy; must be at least 1",
    "evaluator.timeout_s=-1": "evaluator.timeout_s=-1.0: must be above 0 [s]",
    "evaluator.workers=0": "evaluator.workers=0: must be at least 1",
    # settings that contradict
    "generation.temperature=0.7": "generation.temperature=0.7: greedy decoding does not use it; choose generation=sample",
    "generation.n_samples=5": "generation.n_samples=5: greedy decoding gives the same text every time; choose generation=sample",
    "generation=sample generation.temperature=0": "generation.temperature=0.0: sampling needs a temperature above 0",
    "model=qwen_7b model.weights=random generation.stop=complete": "generation.stop=complete: model.weights=random writes no programs",
    "generation.stop=never": "generation.stop=never: no such choice; choose one of benchmark, complete",
    "suite.split=instruct": "suite.split=instruct: model=starter is a base model, which continues text and follows no instructions; choose suite.split=complete or an instruct model",
    "quant.bits=4": "quant.bits=4: quant=none has no bits",
    "quant=gptq4 quant.bits=3": "quant.bits=3: gptq takes 4 or 8",
    "model.weights=local": "model.weights=local needs the checkpoint's folder: model.path=FOLDER",
    "model=qwen_7b quant=awq model.dtype=bfloat16 device=cuda": "model.dtype=bfloat16 with quant=awq: quantized weights with a dtype that awq's CUDA kernels lack; use model.dtype=float16, or auto",
    "model=qwen_7b model.weights=bundled": "model.weights=bundled with model=qwen_7b: its weights do not ship with codejoule",
    "model=deepseek_coder_16b quant=awq": "quant=awq with a mixture of experts",
    "gpus=0": "gpus=0: must be at least 1, or null for as few as hold the model",
    "gpus=2 device=cpu": "gpus=2: device=cpu uses none; leave it null",
    "batch.on_out_of_memory=retry": "batch.on_out_of_memory=retry: no such choice; choose one of halve, fail",
    "batch.arrival_rate_per_s=0": "batch.arrival_rate_per_s=0.0: must be above 0 and finite [requests/s], or null for a closed loop",
    "engine=graph batch.arrival_rate_per_s=2": "batch.arrival_rate_per_s=2.0: engine=graph is given all requests at once; leave it null, or choose engine=server or engine=vllm",
    # more memory than there is
    "model=qwen_7b model.weights=random ++model.architecture.num_hidden_layers=9999 device=cpu": "model=qwen_7b with quant=none at batch size 1 needs about ",
    "model.path=conf": "model.path=conf: used only with model.weights=local",
    "tracking=server": "tracking.uri=null: tracking=server needs the server's address",
    # paths, tasks, devices
    "suite.name=mine suite.path=/nowhere/tasks.jsonl": "suite.path=/nowhere/tasks.jsonl: no such file or folder",
    "evaluator.python=/nowhere/python": "evaluator.python=/nowhere/python: no such file or folder",
    "suite.task_ids=[Starter/999999]": "Starter/999999",
    "device=cuda": "device=cuda: ",
    "experiment=smoke": "experiment=smoke: presets are added with a plus: +experiment=smoke",
    "tracking.experiment=": "tracking.experiment=: must not be empty",
    "suite.path=README.md": "suite.path=README.md: its tasks are not starter's, and would be recorded as if they were; name them: suite.name=...",
    "batch=b1,b8": "batch=b1,b8: several values are a sweep, which needs -m: codejoule run -m batch=b1,b8",
    # Hydra's own grammar
    "model=[": "model=[: not a Hydra override",
    "-m --cfg job": "Only one of --run, --multirun, --cfg",
}

# What only a job finds, and one of each kind of what is found as soon as it is composed.
FOUND_IN_A_JOB = {
    "quant=gptq3",
    "model.pth=x",
    "batch.size=many",
    "batch.size=-1",
    "generation.n_samples=5",
    "model.weights=local",
    "model=qwen_7b quant=awq model.dtype=bfloat16 device=cuda",
    "model=qwen_7b model.weights=bundled",
    "model=deepseek_coder_16b quant=awq",
    "model=qwen_7b model.weights=random ++model.architecture.num_hidden_layers=9999 device=cpu",
    "model.path=conf",
    "suite.task_ids=[Starter/999999]",
    "device=cuda",
    "batch=b1,b8",
    "model=[",
    "-m --cfg job",
}


def main(overrides: str, tmp_path: Path) -> list[str]:
    return [
        str(ROOT / "src" / "main.py"),
        *overrides.split(),
        f"tracking.dir={tmp_path}/mlruns",
        f"hydra.run.dir={tmp_path}/out",
        f"hydra.sweep.dir={tmp_path}/sweep",
    ]


@pytest.fixture
def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    return kept | {"CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def store(tmp_path: Path, with_database: Callable[[Path], Path]) -> Path:
    """A folder with a database, so that what fails late need not make one."""
    return with_database(tmp_path)


def test_all_that_only_a_job_finds_is_in_the_table() -> None:
    assert WRONG.keys() >= FOUND_IN_A_JOB


@pytest.mark.parametrize("overrides", [each for each in WRONG if each not in FOUND_IN_A_JOB])
def test_wrong_config_is_told_as_soon_as_it_is_composed(
    overrides: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError) as caught:
        compose_experiment(overrides.split())
    assert WRONG[overrides] in str(caught.value)


@pytest.mark.parametrize("overrides", [each for each in WRONG if each in FOUND_IN_A_JOB])
def test_wrong_config_is_one_message_without_traceback(
    overrides: str, store: Path, environment: dict[str, str]
) -> None:
    done = warm.run(main(overrides, store), env=environment)
    assert done.returncode in (1, 2), done.stderr
    assert WRONG[overrides] in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1


def test_full_error_brings_the_traceback_back(tmp_path: Path, environment: dict[str, str]) -> None:
    done = warm.run(main("batch.size=-1", tmp_path), env=environment | {"HYDRA_FULL_ERROR": "1"})
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_fault_in_one_job_stops_a_sweep_before_its_first_job(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    command = [sys.executable, *main("-m batch.size=1,2,-1 repeat=1,2", tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert (
        "batch.size=-1: prompts decoded together; must be at least 1 (in 2 of 6 jobs)"
        in done.stderr
    )
    assert not (tmp_path / "mlruns").exists(), "nothing may have started"


@pytest.mark.parametrize("key", ["suite.path", "tracking.dir", "+model.path"])
@pytest.mark.parametrize(
    "name", ["a=b", "x,y", "my (copy)", "a{b}", "b[1]", "ü", "#1", "a'b", 'a"b', "trail ", "a;b&c"]
)
def test_a_path_that_hydra_would_take_apart_is_told_in_quotes_that_work(
    key: str, name: str
) -> None:
    (typed,) = shlex.split(_quoted(f"{key}=/no/{name}"))
    parsed = OverridesParser.create().parse_override(typed)
    assert (parsed.key_or_group, parsed.value()) == (key.lstrip("+"), f"/no/{name}")


@pytest.mark.parametrize(
    ("overrides", "advice"),
    [
        (["suite.path=/no/a=b.jsonl"], "'suite.path=\"/no/a=b.jsonl\"'"),
        (["batch=b8", "model.path=/no/my", "model(1)"], "'model.path=\"/no/my model(1)\"'"),
        (["tracking.dir=/no/x,y"], "if the comma is part of the value, quote it: 'tracking.dir="),
        (["-m", "tracking.dir=/no/x,y"], "quote a comma that is part of a value"),
        (["tracking.uri=http://host:5000/?a=b"], "'tracking.uri=\"http://host:5000/?a=b\"'"),
    ],
)  # fmt: skip
def test_what_hydra_cannot_read_is_told_with_its_quotes(
    overrides: list[str], advice: str, environment: dict[str, str]
) -> None:
    done = warm.run([str(ROOT / "src" / "main.py"), *overrides], env=environment)
    assert done.returncode == 1
    assert advice in done.stderr
    assert done.stderr.count("error: ") == 1
