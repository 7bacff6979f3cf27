"""No code of a model's folder runs, whichever way it asks to."""

import ast
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codejoule.config import ConfigError, UserError, checkout
from codejoule.config.schema import ModelConfig, QuantConfig
from codejoule.models import (
    end_token_owners,
    load_model,
    load_tokenizer,
    locate_checkpoint,
    quantize_checkpoint,
)

SOURCE = checkout() / "src"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """The file that code of the folder would write."""
    return tmp_path / "code has run"


@pytest.fixture
def folder(
    tiny_folder: Path, tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A model with code of its own in every place where a library looks for some."""
    made = tmp_path / "model"
    shutil.copytree(tiny_folder, made)
    code = f"open({str(canary)!r}, 'w').close()\nclass C: pass\ndef generate(*a, **k): pass\n"
    for name in ("code.py", "custom_generate/generate.py", "tokenization.py", "setup.py"):
        file = made / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(code)
    # Whoever asks on the terminal is told yes.
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    return made


def rewrite(file: Path, **changes: Any) -> None:
    fields = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(fields | changes))


AUTO_MAP = {
    "AutoConfig": "code.C", "AutoModelForCausalLM": "code.C", "AutoModel": "code.C",
    "AutoTokenizer": ["code.C", "code.C"],
}  # fmt: skip
WAYS: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "nothing asks for the code": (lambda f: None, None),
    "an architecture that transformers has": (
        lambda f: rewrite(f / "config.json", auto_map=AUTO_MAP),
        None,
    ),
    "an architecture of its own": (
        lambda f: rewrite(f / "config.json", model_type="mine", auto_map=AUTO_MAP),
        r"no architecture of model_type='mine'; config\.json names code of its own .*runs none",
    ),
    "an architecture of nobody": (
        lambda f: rewrite(f / "config.json", model_type="mine"),
        r"no architecture of model_type='mine'; install",
    ),
    "a model of its own": (
        lambda f: rewrite(f / "config.json", model_type="clip", auto_map=AUTO_MAP),
        r"codejoule runs none|transformers refuses it|cannot be read",
    ),
    "a tokenizer of its own": (
        lambda f: rewrite(
            f / "tokenizer_config.json", tokenizer_class="C", auto_map={"AutoTokenizer": "code.C"}
        ),
        r"cannot be read .*tokenizer_config\.json names code of its own|^$",
    ),
    "generation of its own": (
        lambda f: rewrite(f / "generation_config.json", custom_generate="."),
        None,
    ),
    "attention from the hub": (
        lambda f: rewrite(f / "config.json", attn_implementation="someone/attention"),
        r"attn_implementation=someone/attention names code on the hub",
    ),
}


def everything(model: ModelConfig, quant: QuantConfig, cache: Path) -> None:
    """All that reads a folder: its tokenizer, configs, weights, and what `generate` calls."""
    import torch

    found = locate_checkpoint(model, quant, cache_dir=cache)
    load_tokenizer(found, model)
    end_token_owners(found)
    loaded = load_model(found, model, quant, device="cpu")
    loaded.model.generate(torch.arange(4)[None], max_new_tokens=2)


@pytest.mark.parametrize("way", WAYS)
def test_no_code_runs_from_a_folder(
    way: str,
    folder: Path,
    canary: Path,
    tmp_path: Path,
    make_model: Callable[..., ModelConfig],
    quants: dict[str, QuantConfig],
) -> None:
    change, refusal = WAYS[way]
    change(folder)
    text = ""
    try:
        everything(make_model(folder), quants["none"], tmp_path)
    except (ConfigError, UserError) as error:
        text = str(error)
    assert not canary.exists()
    assert "trust_remote_code" not in text
    if refusal is None:
        assert text == ""
    else:
        assert re.search(refusal, text), text


@pytest.mark.parametrize("quant", ["gptq4", "awq"])
def test_no_code_runs_while_quantizing(
    quant: str,
    folder: Path,
    canary: Path,
    tmp_path: Path,
    make_model: Callable[..., ModelConfig],
    quants: dict[str, QuantConfig],
) -> None:
    rewrite(folder / "config.json", model_type="mine", auto_map=AUTO_MAP)
    model = make_model(folder)
    found = locate_checkpoint(model, quants[quant], cache_dir=tmp_path)
    with pytest.raises(ConfigError, match="codejoule runs none"):
        quantize_checkpoint(found, quants[quant], calibration_texts=["x"], device="cpu")
    assert not canary.exists()


def test_weights_are_safetensors_or_nothing(
    folder: Path, make_model: Callable[..., ModelConfig], quants: dict[str, QuantConfig]
) -> None:
    """Pickled ones hold code, and are not what was hashed."""
    import torch

    (folder / "model.safetensors").rename(folder / "other.safetensors")
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be loaded"):
        everything(make_model(folder), quants["none"], folder)


def test_code_of_a_random_models_architecture_is_not_run(
    tiny_architecture: dict[str, Any], quants: dict[str, QuantConfig], canary: Path, folder: Path
) -> None:
    from codejoule.config.schema import Weights

    named = {**tiny_architecture, "_name_or_path": str(folder), "auto_map": AUTO_MAP}
    model = ModelConfig(name="tiny", weights=Weights.random, architecture=named, cpu_threads=1)
    for name in ("none", "gptq4"):
        everything(model, quants[name], folder)
    assert not canary.exists()


# Calls that read a model, a tokenizer or a data set by libraries that may run what they find there.
_LOADING = {"from_pretrained", "load_dataset", "pipeline"}
_LOADING_OF = {"from_config": "Auto", "load": "GPTQModel"}
_DATA_ALONE = {"LoraConfig"}
"""Of peft, which reads a JSON file into its own class."""


def loading_calls(tree: ast.AST) -> list[ast.Call]:
    found = []
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        function = call.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
        if owner in _DATA_ALONE:
            continue
        if name in _LOADING or (name in _LOADING_OF and owner.startswith(_LOADING_OF[name])):
            found.append(call)
    return found


def test_every_call_that_loads_forbids_code() -> None:
    calls = {
        f"{file.relative_to(SOURCE)}:{call.lineno}": call
        for file in SOURCE.rglob("*.py")
        for call in loading_calls(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert len(calls) >= 8, "they are found"
    without = [
        place
        for place, call in calls.items()
        if not any(
            word.arg == "trust_remote_code" and ast.unparse(word.value) == "False"
            for word in call.keywords
        )
    ]
    assert without == []
