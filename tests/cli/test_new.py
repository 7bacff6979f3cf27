"""``codejoule new model`` writes a file that is a choice from then on."""

import json
from pathlib import Path

import pytest

from codejoule.cli import main
from codejoule.config.compose import compose_experiment
from codejoule.config.schema import Variant


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    made = tmp_path / "checkpoint-500"
    made.mkdir()
    (made / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    (made / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    return made


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_folder_becomes_a_choice_with_what_is_known_of_it(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "model", "mine", "--from", str(checkpoint)]) == 0
    said = capsys.readouterr().out
    assert "conf/model/mine.yaml is written; codejoule run model=mine runs it" in said
    assert (
        "the estimator does not know models of type gpt2" in said and "without predictions" in said
    )
    model = compose_experiment(["model=mine"]).model
    assert (model.name, model.path, model.variant) == ("mine", str(checkpoint), Variant.instruct)
    (checkpoint / "tokenizer_config.json").write_text("{}")
    assert main(["new", "model", "base", "--from", checkpoint.name]) == 0
    assert compose_experiment(["model=base"]).model.variant is Variant.base


def test_nothing_is_overwritten_and_no_preset_is_hidden(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "model", "mine", "--from", str(checkpoint)]) == 0
    before = Path("conf/model/mine.yaml").read_text()
    for name, said in (
        ("mine", "is there already; choose another name, or edit it"),
        ("qwen_7b", "conf/model/qwen_7b.yaml is there already"),
        ("a/b", "not a name for a choice"),
    ):
        assert main(["new", "model", name, "--from", "org/name"]) == 2
        assert said in capsys.readouterr().err
    assert Path("conf/model/mine.yaml").read_text() == before
    assert main(["new", "model", "other", "--from", "/nowhere"]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    assert not Path("conf/model/other.yaml").exists()


def test_a_repository_that_cannot_be_asked_leaves_open_what_only_it_tells(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert main(["new", "model", "coder", "--from", "somebody/Coder-3B@v2"]) == 0
    assert "model.architecture and model.variant are left open" in capsys.readouterr().out
    model = compose_experiment(["model=coder"]).model
    assert (model.name, model.id, model.revision) == ("coder", "somebody/Coder-3B", "v2")
    assert model.variant is None and model.architecture == {}


def test_a_repository_in_the_cache_is_read_without_the_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--somebody--Coder-3B"
    snapshot = repository / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    fields = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "vocab_size": 320,
        "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 256,
        "dtype": "bfloat16",
    }  # fmt: skip
    (snapshot / "config.json").write_text(json.dumps(fields))
    # As reading the config alone leaves the cache: nothing tells yet whether the model chats.
    assert main(["new", "model", "untold", "--from", "somebody/Coder-3B"]) == 0
    assert "no tokenizer_config.json in the cache" in capsys.readouterr().out
    model = compose_experiment(["model=untold"]).model
    assert (model.variant, model.architecture["num_hidden_layers"]) == (None, 2)
    (snapshot / "tokenizer_config.json").write_text("{}")
    assert main(["new", "model", "coder", "--from", "somebody/Coder-3B"]) == 0
    model = compose_experiment(["model=coder"]).model
    assert (model.variant, model.architecture["num_hidden_layers"]) == (Variant.base, 2)
    capsys.readouterr()
    assert main(["estimate", "model=somebody/Coder-3B", "gpu=h100", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "Coder-3B"


def test_a_folder_of_choices_can_be_named(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "model", "mine", "--from", str(checkpoint)]) == 0
    Path("conf").rename("choices")
    assert main(["estimate", "model=mine", "gpu=h100"]) == 2
    assert "model=mine: no such choice" in capsys.readouterr().err
    assert main(["estimate", "model=mine", "gpu=h100", "--config-dir", "choices"]) == 2
    assert "model=mine: " in (said := capsys.readouterr().err) and "gpt2" in said
