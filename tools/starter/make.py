"""Make the bundled starter suites, the starter model and its quantized checkpoints.

Run as ``python -m tools.starter.make suite``, ``... model``, ``... quantize`` or ``... texts``.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import codejoule.models
import codejoule.suites
from codejoule.config import write_whole
from codejoule.config.schema import (
    CalibrationConfig,
    Method,
    ModelConfig,
    QuantConfig,
    QuantSource,
    Variant,
    Weights,
)
from tools.starter import suite as grammar
from tools.starter.suite.sampling import SEED

TRAINING_PROGRAMS = 50_000
FINETUNING_PROGRAMS = 2_000
CALIBRATION_TEXTS = 128
DATA = Path(codejoule.suites.__file__).parent / "data"
CHECKPOINTS = Path(codejoule.models.__file__).parent / "starter"
TEXTS = Path("outputs") / "starter-texts.jsonl"
_PROVENANCE = "PROVENANCE.json"
_KEPT = ("config.json", "generation_config.json", "model.safetensors", "quantize_config.json",
         "tokenizer.json", "tokenizer_config.json")  # fmt: skip


def make_calibration(folder: Path = CHECKPOINTS) -> None:
    """Write the texts that the bundled model is quantized with, a JSON text per line."""
    texts = grammar.training_texts(CALIBRATION_TEXTS)
    write_whole(folder / "calibration.jsonl", "".join(json.dumps(t) + "\n" for t in texts))


def make_suites(folder: Path = DATA) -> None:
    """Write ``starter.jsonl`` and ``starter_large.jsonl`` into `folder`."""
    held_out = grammar.held_out_pairs()
    for name, prefix, parts in (
        ("starter", "Starter", grammar.STARTER),
        ("starter_large", "StarterLarge", grammar.STARTER_LARGE),
    ):
        tasks = grammar.draw_tasks(parts, held_out=held_out, rng=random.Random(name))
        write_whole(folder / f"{name}.jsonl", grammar.dump_rows(tasks, prefix=prefix))
        print(f"{folder / name}.jsonl: {len(tasks)} tasks")


def make_texts(file: Path = TEXTS, *, programs: int = FINETUNING_PROGRAMS) -> None:
    """Write programs like those of the harder half of ``starter_large`` (longer ones, rare
    operations as often as others), for ``stage=finetune``; none has a held-out pair, and so none is
    an evaluated task."""
    drawn = grammar.draw_corpus(programs, name="finetuning", lengths={5: 1, 6: 1}, rare_weight=1.0)
    rows = [json.dumps({"prompt": prompt, "completion": body}) for prompt, body, _ in drawn]
    write_whole(file, "".join(f"{row}\n" for row in rows))
    print(f"{file}: {len(rows)} texts")


def make_model(folder: Path = CHECKPOINTS, *, programs: int = TRAINING_PROGRAMS) -> None:
    """Train the starter model into ``folder/none`` and start a new record of provenance."""
    from tools.starter.training import Recipe, save, train

    pairs = [(prompt, body) for prompt, body, _ in grammar.draw_corpus(programs)]
    recipe = Recipe()
    trained = train(pairs, recipe=recipe, report=_report)
    with tempfile.TemporaryDirectory(dir=_made(folder)) as work:
        save(trained, Path(work))
        checksum = _install(Path(work), folder / "none")
    facts = {
        "made_by": "make starter-model",
        "corpus_programs": programs,
        "corpus_seed": SEED,
        "corpus_sha256": digest(prompt + body for prompt, body in pairs),
        "recipe": recipe.as_dict(),
        "parameters": sum(p.numel() for p in trained.model.parameters()),
        "steps": trained.steps,
        "training_tokens": trained.tokens,
        "final_loss": round(trained.final_loss, 6),
        "versions": _versions(("torch", "transformers", "tokenizers", "safetensors")),
        "sha256": {"none": checksum},
    }
    write_whole(folder / _PROVENANCE, json.dumps(facts, indent=2) + "\n")


def make_quantized(folder: Path = CHECKPOINTS) -> None:
    """Quantize ``none`` of the bundled starter model into its siblings, on training texts."""
    # As few as gptqmodel 7.6 takes, so that the order of its sums is the same everywhere.
    os.environ["GPTQMODEL_CPU_WORKERS"] = "2"
    from codejoule.models import locate_checkpoint, quantize_checkpoint

    facts: dict[str, Any] = json.loads((folder / _PROVENANCE).read_text(encoding="utf-8"))
    texts = grammar.training_texts(CALIBRATION_TEXTS)
    model = ModelConfig(
        name="starter",
        weights=Weights.local,
        path=str(folder / "none"),
        variant=Variant.base,
    )
    for quant in (
        _quant("gptq8", Method["gptq"], bits=8, sym=True),
        _quant("gptq4", Method["gptq"], bits=4, sym=True),
        _quant("awq", Method["awq"], bits=4, sym=False),
    ):
        with tempfile.TemporaryDirectory(dir=folder) as work:
            found = locate_checkpoint(model, quant, cache_dir=Path(work))
            made = quantize_checkpoint(found, quant, calibration_texts=texts, device="cpu")
            facts["sha256"][quant.name] = _install(made, folder / quant.name)
        print(f"{folder / quant.name}: {facts['sha256'][quant.name]}")
    make_calibration(folder)
    facts["calibration_texts"] = len(texts)
    facts["calibration_sha256"] = digest(texts)
    facts["versions"] |= _versions(("gptqmodel",))
    write_whole(folder / _PROVENANCE, json.dumps(facts, indent=2) + "\n")


def _quant(name: str, method: Method, *, bits: int, sym: bool) -> QuantConfig:
    return QuantConfig(
        name=name,
        method=method,
        bits=bits,
        group_size=128,
        sym=sym,
        source=QuantSource.local,
        calibration=CalibrationConfig(samples=CALIBRATION_TEXTS),
    )


def _install(made: Path, target: Path) -> str:
    """Put a checkpoint's files in `target`, whole or not at all; SHA-256 of its weights."""
    kept = [made / name for name in _KEPT if (made / name).exists()]
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    for file in kept:
        shutil.copyfile(file, fresh / file.name)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    return hashlib.sha256((target / "model.safetensors").read_bytes()).hexdigest()


def digest(texts: Iterable[str]) -> str:
    """SHA-256 (hex) over texts in order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def _versions(packages: Iterable[str]) -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _report(step: int, steps: int, loss: float) -> None:
    if step % 100 == 0 or step == steps:
        print(f"step {step}/{steps}: loss {loss:.4f} nat/token", flush=True)


def main() -> None:
    """Run one of these from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tools.starter.make")
    parser.add_argument("what", choices=("suite", "model", "quantize", "texts"))
    what = parser.parse_args().what
    makers: dict[str, Callable[[], None]] = {
        "suite": make_suites,
        "model": make_model,
        "quantize": make_quantized,
        "texts": make_texts,
    }
    makers[what]()


if __name__ == "__main__":
    main()
