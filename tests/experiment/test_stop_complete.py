"""`generation.stop=complete` on a real model that does not stop by itself."""

import json
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from codejoule.config import checkout, conf_folder
from codejoule.config.compose import register_schemas
from codejoule.config.typed import to_experiment
from codejoule.domain import Completion, FinishReason
from codejoule.experiment.evaluation_stage import samples_of
from codejoule.experiment.generation_stage import generate
from codejoule.experiment.plan import make_plan
from codejoule.experiment.shares import in_order
from codejoule.tracking import Journal
from codejoule.tracking.entries import Batch

BUNDLED = checkout() / "src" / "codejoule" / "models" / "starter" / "none"


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model with another end token, which it never writes: it goes on and on."""
    folder = tmp_path_factory.mktemp("endless") / "model"
    shutil.copytree(BUNDLED, folder)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        if "eos_token_id" in content:
            content["eos_token_id"] = content["pad_token_id"]
        if "eos_token" in content:
            content["eos_token"] = content["pad_token"]
        (folder / name).write_text(json.dumps(content))
    return folder


def answers(endless: Path, folder: Path, stop: str) -> list[tuple[Completion, str]]:
    """Completions and sanitized programs."""
    register_schemas()
    overrides = [
        "model=starter", "model.weights=local", f"model.path={endless}", "device=cpu",
        "model.name=endless", "batch=b8", "suite.limit=8", f"generation.stop={stop}",
        "meter=cpu_estimate", "meter.idle_s=0", "engine.warmup_batches=0",
    ]  # fmt: skip
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        plan = make_plan(to_experiment(compose("config", overrides=overrides)))
    generate(plan, folder)
    with Journal(folder) as journal:
        batches = journal.entries(Batch)
    asked = in_order(batches)
    samples = samples_of(plan, asked, folder)
    return [(a.completion, s.solution) for a, s in zip(asked, samples, strict=True)]


@pytest.mark.slow
def test_programs_are_the_same_and_tokens_are_saved(endless: Path, tmp_path: Path) -> None:
    benchmark = answers(endless, tmp_path / "benchmark", "benchmark")
    complete = answers(endless, tmp_path / "complete", "complete")
    assert [program for _, program in complete] == [program for _, program in benchmark]
    ended = 0
    for (ours, _), (theirs, _) in zip(complete, benchmark, strict=True):
        assert theirs.finish_reason is not FinishReason.complete
        assert theirs.text.startswith(ours.text)
        if ours.finish_reason is FinishReason.complete:
            ended += 1
            assert ours.output_tokens < theirs.output_tokens
        else:
            assert ours == theirs
    assert ended >= 3
