"""A model whose weights are not its preset's has a name and facts of its own."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from codejoule.config import ConfigError, conf_folder
from codejoule.config.compose import register_schemas
from codejoule.config.own_weights import with_own_facts
from codejoule.config.schema import ExperimentConfig, ModelConfig, Variant, Weights
from codejoule.config.typed import from_plain, to_experiment, to_plain

MakeFolder = Callable[..., Path]
CONF = conf_folder()
PRESETS = tuple(file.stem for file in CONF.glob("model/*.yaml"))
FROM_THE_HUB = ("qwen_0_5b", "qwen_7b_base", "llama_8b", "deepseek_coder_16b")


@cache
def preset(name: str) -> ModelConfig:
    given = OmegaConf.load(CONF / "model" / f"{name}.yaml")
    assert isinstance(given, DictConfig)
    del given["defaults"]
    made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ModelConfig), given))
    assert isinstance(made, ModelConfig)
    return made


def own(name: str, /, *written: str, **changes: Any) -> ModelConfig:
    """The preset `name` with these changes, as composed; `written` are keys that say what the
    preset says."""
    keys = [f"model.{key}" for key in (*written, *changes)]
    model = replace(preset(name), **changes)
    return with_own_facts(model, preset(name), written=keys, taken=PRESETS)


def local(name: str, path: Path, /, *written: str, **changes: Any) -> ModelConfig:
    return own(name, *written, weights=Weights.local, path=str(path), **changes)


def composed(*overrides: str) -> ExperimentConfig:
    register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return to_experiment(compose("config", list(overrides), return_hydra_config=True))


@pytest.fixture
def folder(tmp_path: Path) -> MakeFolder:
    """Makes the folder of a checkpoint, with a preset's ``config.json`` or one of one's own."""

    def make(name: str, like: str | None = None, **changes: Any) -> Path:
        fields = preset(like).architecture if like else {"model_type": "gpt2"}
        made = tmp_path / name
        made.mkdir(parents=True)
        # What transformers writes beside the architecture, and may call otherwise.
        written = {**fields, "dtype": "float32", "transformers_version": "5.0.0", **changes}
        (made / "config.json").write_text(json.dumps(written))
        return made

    return make


@pytest.mark.parametrize("name", ["starter", "qwen_7b", "qwen_0_5b_base"])
@pytest.mark.parametrize("like", ["llama_8b", None])
def test_other_weights_from_a_folder_have_facts_of_their_own(
    name: str, like: str | None, folder: MakeFolder
) -> None:
    model = local(name, folder("my-coder", like))
    assert model.name == "my-coder"
    assert model.variant is None, "the tokenizer tells"
    assert (model.id, model.cpu_threads, model.license, model.gated) == (None, None, None, False)
    assert (model.architecture, model.quantized) == ({}, {})


@pytest.mark.parametrize("name", ["starter", "qwen_7b", "llama_8b"])
def test_another_repository_has_facts_of_its_own(name: str) -> None:
    model = own(name, weights=Weights.hub, id="somebody/Coder-3B")
    assert model.name == "Coder-3B" and model.id == "somebody/Coder-3B"
    assert model.revision == "main" and model.variant is None
    assert (model.architecture, model.quantized, model.cpu_threads) == ({}, {}, None)


@pytest.mark.parametrize("name", ["starter", "qwen_7b"])
def test_what_the_user_writes_stands_even_where_the_preset_says_the_same(
    name: str, folder: MakeFolder
) -> None:
    told = preset(name)
    model = local(
        name, folder("checkpoint"), "name", "variant", "cpu_threads", "revision", "license",
        quantized={**told.quantized, "gptq8": "me/coder"},
    )  # fmt: skip
    assert (model.name, model.variant, model.cpu_threads) == (
        told.name, told.variant, told.cpu_threads
    )  # fmt: skip
    assert (model.revision, model.license) == (told.revision, told.license)
    assert model.quantized == {"gptq8": "me/coder"}
    other = local(name, folder("another"), name="mine", cpu_threads=3)
    assert (other.name, other.cpu_threads, other.variant) == ("mine", 3, None)


@pytest.mark.parametrize("name", FROM_THE_HUB)
def test_a_folder_with_the_presets_architecture_may_be_the_preset_downloaded(
    name: str, folder: MakeFolder
) -> None:
    path = folder("downloaded", name)
    expected = replace(preset(name), weights=Weights.local, path=str(path))
    assert local(name, path) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 3},
        {"vocab_size": 7},
        {"max_position_embeddings": 64},
        {"model_type": "llama"},
        {"model_type": None},
        {"num_attention_heads": "many"},
    ],
)
def test_a_folder_of_another_architecture_is_not_the_preset(
    change: dict[str, Any], folder: MakeFolder
) -> None:
    assert local("qwen_7b", folder("downloaded", "qwen_7b", **change)).name == "downloaded"


@pytest.mark.parametrize("text", ["[]", "{", "null", '"a"'])
def test_a_config_that_is_none_is_left_to_whoever_loads_it(text: str, folder: MakeFolder) -> None:
    path = folder("broken")
    (path / "config.json").write_text(text)
    assert local("qwen_7b", path).name == "broken"


def test_another_revision_and_random_weights_keep_the_preset() -> None:
    for changes in ({"revision": "v1"}, {"weights": Weights.random}):
        assert own("qwen_7b", **changes) == replace(preset("qwen_7b"), **changes)
    assert own("starter") == preset("starter")


def test_a_snapshot_in_the_hubs_cache_is_named_after_its_repository(folder: MakeFolder) -> None:
    path = folder("models--somebody--Coder-3B/snapshots/0123abc")
    assert local("starter", path).name == "Coder-3B"


@pytest.mark.parametrize("spelling", ["{}", "{}/", "{}/.", "{}/../mine", "."])
def test_however_a_path_is_written_the_name_is_the_folders(
    spelling: str, folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder("mine")
    monkeypatch.chdir(path)
    model = replace(preset("starter"), weights=Weights.local, path=spelling.format(path))
    assert with_own_facts(model, preset("starter"), written=(), taken=PRESETS).name == "mine"


@pytest.mark.parametrize("name", ["starter", "qwen_7b"])
def test_a_name_that_a_preset_has_must_be_written(name: str, folder: MakeFolder) -> None:
    path = folder(name)
    with pytest.raises(ConfigError, match=rf"is named like the preset {name}.*: model\.name=\.\."):
        local("starter", path)
    with pytest.raises(ConfigError, match=rf"^model\.id=me/{name}: is named like the preset"):
        own("starter", weights=Weights.hub, id=f"me/{name}")
    assert local("starter", path, "name", name=name).name == name


@pytest.mark.parametrize(
    ("name", "weights"), [("starter", "bundled"), ("qwen_7b", "random"), ("qwen_7b", "local")]
)
def test_a_repository_that_is_not_read_is_refused(name: str, weights: str) -> None:
    with pytest.raises(ConfigError, match=r"^model\.id=me/coder: used only with model.weights=hub"):
        own(name, weights=Weights[weights], id="me/coder")


def test_a_composed_model_is_told_from_its_preset(folder: MakeFolder) -> None:
    weights = ("model.weights=local", f"model.path={folder('mine')}")
    experiment = composed(*weights, "suite.split=instruct")
    assert (experiment.model.name, experiment.model.cpu_threads) == ("mine", None)
    written = composed(*weights, "model.name=starter", "model.variant=base", "model.cpu_threads=1")
    assert (written.model.name, written.model.cpu_threads) == ("starter", 1)
    assert written.model.variant is Variant.base
    for whole in (experiment, written):
        assert from_plain(to_plain(whole)) == whole, "the process of the model is told the same"


def test_a_file_of_the_users_own_says_what_its_weights_are(
    tmp_path: Path, folder: MakeFolder
) -> None:
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text(
        f"defaults: [/schema/model@_here_, _self_]\nname: coder\nweights: local\n"
        f"path: {folder('checkpoint')}\nvariant: base\ncpu_threads: 2\n"
    )
    mine = (f"hydra.searchpath=[file://{tmp_path}/conf]", "model=mine")
    model = composed(*mine).model
    assert (model.name, model.cpu_threads) == ("coder", 2)
    other = composed(*mine, f"model.path={folder('other')}").model
    assert (other.name, other.cpu_threads, other.variant) == ("other", None, None)
