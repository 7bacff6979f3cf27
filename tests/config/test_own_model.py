"""One word names a model of one's own, wherever overrides are read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from codejoule.config import ConfigError, conf_folder
from codejoule.config.compose import compose_experiment, compose_sweep, register_schemas
from codejoule.config.own_model import fields_of, is_own_model
from codejoule.config.schema import GpuConfig, Variant, Weights
from codejoule.config.typed import read_choice
from codejoule.experiment.devices import known_cards
from codejoule.experiment.sweep import check_jobs

MakeModel = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> MakeModel:
    """Makes a checkpoint's folder, as far as a configuration looks into one."""

    def make(name: str, **fields: Any) -> Path:
        made = tmp_path / name
        made.mkdir(parents=True)
        (made / "config.json").write_text(json.dumps({"model_type": "llama"} | fields))
        return made

    return make


def test_a_folder_a_gguf_file_and_a_repository_are_models(
    tmp_path: Path, folder: MakeModel
) -> None:
    path = folder("my-coder_v1.2")
    mine = compose_experiment([f"model={path}"]).model
    assert (mine.name, mine.weights, mine.path) == ("my-coder_v1.2", Weights.local, str(path))
    assert (mine.variant, mine.id, mine.quantized) == (None, None, {}), "the tokenizer tells"
    file = tmp_path / "Coder-Q8_0.gguf"
    file.write_bytes(b"GGUF...")
    stored = compose_experiment([f"model={file}"]).model
    assert (stored.name, stored.weights, stored.path) == ("Coder-Q8_0", Weights.local, str(file))
    hub = compose_experiment(["model=somebody/Coder-3B@v2"]).model
    assert (hub.name, hub.weights, hub.id) == ("Coder-3B", Weights.hub, "somebody/Coder-3B")
    assert (hub.revision, hub.path, hub.variant) == ("v2", None, None)


def test_other_fields_are_set_beside_the_word(folder: MakeModel) -> None:
    changes = ("model.name=mine", "model.dtype=bfloat16", "model.variant=base")
    model = compose_experiment([f"model={folder('x')}", *changes]).model
    assert (model.name, model.dtype.name, model.variant) == ("mine", "bfloat16", Variant.base)


@pytest.mark.parametrize("word", ["./mine", "mine/", "models/../mine", "../{}/mine"])
def test_paths_may_be_relative_and_the_folder_names_the_model(
    word: str, tmp_path: Path, folder: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder("mine")
    monkeypatch.chdir(tmp_path)
    model = compose_experiment([f"model={word.format(tmp_path.name)}"]).model
    assert (model.name, model.path) == ("mine", str(path))


def test_a_folder_goes_before_a_repository_of_that_name(
    tmp_path: Path, folder: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder("org/name")
    monkeypatch.chdir(tmp_path)
    assert compose_experiment(["model=org/name"]).model.path == str(path)


def test_a_link_gives_a_model_a_name_and_a_snapshot_of_the_hub_is_named_after_its_repository(
    tmp_path: Path, folder: MakeModel
) -> None:
    path = folder("models--somebody--Coder-3B/snapshots/0123abc")
    assert compose_experiment([f"model={path}"]).model.name == "Coder-3B"
    link = tmp_path / "mine"
    link.symlink_to(path)
    assert compose_experiment([f"model={link}"]).model.name == "mine"


def test_models_of_ones_own_are_swept_beside_presets(folder: MakeModel) -> None:
    jobs = compose_sweep([f"model=starter,{folder('mine')},org/other", "quant=gptq4"])
    assert [job.model.name for job in jobs] == ["starter", "mine", "other"]
    assert [job.model.weights.name for job in jobs] == ["bundled", "local", "hub"]
    assert [job.model.cpu_threads for job in jobs] == [1, None, None], (
        "a preset's facts are its own"
    )


def test_two_models_of_one_name_stop_a_sweep_before_its_first_job(folder: MakeModel) -> None:
    one, other = folder("a/checkpoint"), folder("b/checkpoint")
    register_schemas()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        sweep = loader.load_configuration("config", [], run_mode=_multirun())
        with pytest.raises(ConfigError, match="would all be recorded as checkpoint; give each a"):
            check_jobs(
                lambda job: loader.load_sweep_config(sweep, list(job)),
                [[f"model={one}"], [f"model={other}"]],
            )


def _multirun() -> Any:
    from hydra.types import RunMode

    return RunMode.MULTIRUN


def refused(*overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        compose_experiment(overrides)
    return str(error.value)


def test_a_name_that_a_preset_has_is_refused(folder: MakeModel) -> None:
    path = folder("qwen_7b")
    said = refused(f"model={path}")
    assert said.startswith(f"model={path}: is named like the preset qwen_7b")
    assert "model.name=" in said and f"codejoule new model NAME --from {path}" in said


def test_what_is_no_model_is_told_with_what_would_help(
    tmp_path: Path, folder: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = folder("outer/checkpoint-500")
    (made / "model.safetensors").write_bytes(b"")
    for name in ("adapter", "ggufs", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    (tmp_path / "ggufs" / "x-Q4_0.gguf").write_bytes(b"GGUF")
    (tmp_path / "pointer.gguf").write_bytes(b"version https://git-lfs")
    (tmp_path / "notes.txt").write_text("x")
    expected = {
        "/nowhere/x": "no such file or folder: / has no nowhere; give a checkpoint's folder",
        "./x": f"no such file or folder (relative paths start at {tmp_path}): {tmp_path} has no x",
        "~/no-such-model": "no such file or folder: ",
        "a/b/c": "no such file or folder",
        "x.gguf": "no such file or folder",
        "org/name/x.gguf": "is downloaded first: hf download org/name x.gguf",
        "https://huggingface.co/org/name/tree/main": "an address; the repository's name is enough: model=org/name",
        "./empty": "holds no config.json",
        "./outer": "these folders in it do: checkpoint-500",
        "./ggufs": "give the GGUF file itself: model=./ggufs/x-Q4_0.gguf",
        "./adapter": "an adapter (LoRA) without its model: model=MODEL model.adapter=",
        f"{made}/model.safetensors": f"a file of a checkpoint; give its folder: model={made}",
        "pointer.gguf": "does not begin like a GGUF file",
        "./notes.txt": "a file that is no GGUF",
    }
    for word, said in expected.items():
        assert is_own_model(word)
        with pytest.raises(ConfigError) as error:
            fields_of(word)
        found = str(error.value)
        assert found.startswith(f"model={word}: ") and said in found, found


def test_a_word_without_a_slash_is_never_looked_for_on_the_hub(
    tmp_path: Path, folder: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder("mine")
    monkeypatch.chdir(tmp_path)
    assert "did you mean qwen_7b or qwen_7b_base? choose one of " in refused("model=qwen_7")
    assert refused("model=mine").startswith(
        "model=mine: no such choice; the folder of that name is model=./mine; choose one of "
    )
    assert refused("model=gpt2").endswith(
        "or a model of your own: model=/path/to/folder, model=org/name, model=file.gguf"
    )


OWN = "defaults: [/base/{0}@_here_, _self_]\nname: {1}\n"


@pytest.fixture
def own_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's conf/ in the working directory."""
    made = tmp_path / "conf"
    for group in ("model", "suite", "gpu", "experiment"):
        (made / group).mkdir(parents=True)
    (made / "model" / "mine.yaml").write_text(OWN.format("model", "mine") + "id: me/coder\n")
    (made / "suite" / "tasks.yaml").write_text(OWN.format("suite", "tasks") + "hub_id: me/x\n")
    (made / "experiment" / "ours.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: mine\n  - override /suite: tasks\n"
    )
    monkeypatch.chdir(tmp_path)
    return made


def test_choices_of_the_working_directory_are_added_to_codejoules(own_conf: Path) -> None:
    experiment = compose_experiment(["model=mine", "suite=tasks", "batch=b8"])
    assert (experiment.model.id, experiment.suite.hub_id) == ("me/coder", "me/x")
    jobs = compose_sweep(["+experiment=ours", "batch=b1,b8"])
    assert [(job.model.name, job.batch.size) for job in jobs] == [("mine", 1), ("mine", 8)]
    assert "llama_8b, mine, qwen3_" in refused("model=nonesuch")


def test_a_file_named_like_one_of_codejoules_is_refused_where_it_is_chosen(
    own_conf: Path,
) -> None:
    (own_conf / "model" / "qwen_7b.yaml").write_text("name: other\n")
    said = refused("model=qwen_7b")
    assert said.startswith(f"model=qwen_7b: {own_conf}/model/qwen_7b.yaml is named like ")
    assert said.endswith("rename your file")


def test_codejoules_own_conf_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(conf_folder().parent)
    register_schemas()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("config", return_hydra_config=True)
        sources = [source.path for source in config.hydra.runtime.config_sources]
    assert [Path(path) for path in sources if path.endswith("/conf")] == [conf_folder()]


def test_a_file_of_another_program_is_named_and_breaks_nothing_else(
    own_conf: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = {"foo": "foo: 1\n", "list": "- 1\n", "half": "name: half\n", "bad": "a: [\n"}
    for name, text in texts.items():
        (own_conf / "gpu" / f"{name}.yaml").write_text(text)
    assert compose_experiment(["model=qwen_0_5b"]).model.name == "qwen_0_5b"
    cards = known_cards()
    assert {"h100", "h200"} <= {card.name for card in cards}
    assert not {"half"} & {card.name for card in cards}
    known_cards()
    for name in texts:
        of_file = [line for line in caplog.messages if f"{own_conf}/gpu/{name}.yaml: " in line]
        assert len(of_file) == 1, "each file is named once"
    with pytest.raises(ConfigError, match=r"/conf/gpu/foo\.yaml: Key 'foo' not in 'GpuConfig'"):
        read_choice(own_conf / "gpu" / "foo.yaml", GpuConfig)
