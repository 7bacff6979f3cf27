import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from codejoule.config import ConfigError
from codejoule.config.schema import (
    CalibrationConfig,
    Method,
    ModelConfig,
    QuantConfig,
    QuantSource,
    Weights,
)
from codejoule.models import locate_checkpoint


def test_a_local_folder_is_identified_by_its_contents(
    tiny_folder: Path, tmp_path: Path, make_model: Callable[..., ModelConfig]
) -> None:
    none = QuantConfig(name="none")
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    original = locate_checkpoint(make_model(tiny_folder), none, cache_dir=tmp_path)
    same = locate_checkpoint(make_model(copy), none, cache_dir=tmp_path)
    assert same.path == copy
    assert same.checksum == original.checksum
    assert not same.needs_quantization
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    changed = locate_checkpoint(make_model(copy), none, cache_dir=tmp_path)
    assert changed.checksum != original.checksum


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("chat_template.jinja", True),
        ("chat_template.json", True),
        ("additional_chat_templates/tools.jinja", True),
        ("tokenizer.json", True),
        ("tokenizer_config.json", True),
        ("special_tokens_map.json", True),
        ("added_tokens.json", True),
        ("vocab.json", True),
        ("merges.txt", True),
        ("tokenizer.model", True),
        ("source.spm", True),
        ("words.tiktoken", True),
        ("generation_config.json", True),
        ("config.json", True),
        ("a_file_of_next_year.json", True),
        ("README.md", False),
        (".gitattributes", False),
        ("pytorch_model.bin", False),
        ("checkpoint-10/trainer_state.json", False),
    ],
)
def test_every_file_that_may_change_an_answer_identifies_a_folder(
    file: str,
    counts: bool,
    tiny_folder: Path,
    tmp_path: Path,
    make_model: Callable[..., ModelConfig],
) -> None:
    def checksum() -> str:
        found = locate_checkpoint(make_model(copy), QuantConfig(name="none"), cache_dir=tmp_path)
        return found.checksum

    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    before = checksum()
    there = copy / file
    there.parent.mkdir(exist_ok=True)
    for change in range(2):
        there.write_text((there.read_text() if there.exists() else "") + " " * (change + 1))
        after = checksum()
        assert (after != before) == counts
        before = after


def test_a_folder_with_a_missing_shard_is_refused(
    tiny_folder: Path, tmp_path: Path, make_model: Callable[..., ModelConfig]
) -> None:
    folder = tmp_path / "sharded"
    shutil.copytree(tiny_folder, folder)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match="holds no complete set of"):
        locate_checkpoint(make_model(folder), QuantConfig(name="none"), cache_dir=tmp_path)


def test_what_is_quantized_here_gets_a_folder_named_after_what_goes_in(
    tiny_folder: Path,
    tmp_path: Path,
    make_model: Callable[..., ModelConfig],
    quants: dict[str, QuantConfig],
) -> None:
    model = make_model(tiny_folder)
    asked = quants["gptq4"]
    more = dataclasses.replace(asked, calibration=CalibrationConfig(samples=8))
    variants = [
        (asked, ""),
        (quants["gptq8"], ""),
        (dataclasses.replace(asked, group_size=64), ""),
        (more, ""),
        (asked, "another suite"),
    ]
    found = [
        locate_checkpoint(model, quant, cache_dir=tmp_path, calibration_id=calibration)
        for quant, calibration in variants
    ]
    assert len({checkpoint.path for checkpoint in found}) == len(variants)
    assert len({checkpoint.checksum for checkpoint in found}) == len(variants)
    first = found[0]
    assert first.path is not None
    assert first.path.name.startswith("gptq-4bit-g128-")
    assert first.needs_quantization
    assert first.base_path == tiny_folder
    again = locate_checkpoint(model, asked, cache_dir=tmp_path)
    assert again == first


def test_the_calibration_files_contents_count(
    tiny_folder: Path, tmp_path: Path, make_model: Callable[..., ModelConfig]
) -> None:
    text = tmp_path / "calibration.txt"
    quant = QuantConfig(
        name="gptq4", method=Method.gptq, bits=4, calibration=CalibrationConfig(path=str(text))
    )
    with pytest.raises(ConfigError, match=r"quant\.calibration\.path=.*cannot be read"):
        locate_checkpoint(make_model(tiny_folder), quant, cache_dir=tmp_path)
    checksums = []
    for content in ("one", "two"):
        text.write_text(content)
        found = locate_checkpoint(make_model(tiny_folder), quant, cache_dir=tmp_path)
        checksums.append(found.checksum)
    assert checksums[0] != checksums[1]


def test_a_quantized_folder_is_taken_as_it_is(
    quantized: Callable[[str], Path],
    tmp_path: Path,
    make_model: Callable[..., ModelConfig],
    quants: dict[str, QuantConfig],
) -> None:
    folder = quantized("gptq4")
    found = locate_checkpoint(make_model(folder), quants["gptq4"], cache_dir=tmp_path)
    assert found.path == folder
    assert not found.needs_quantization
    assert found.quantization == "gptq-4bit-g128"


@pytest.mark.parametrize("name", ["none", "gptq8", "gptq4", "awq"])
def test_the_starter_model_ships_with_its_quantizations(
    name: str, tmp_path: Path, quants: dict[str, QuantConfig]
) -> None:
    starter = ModelConfig(name="starter", weights=Weights.bundled)
    found = locate_checkpoint(starter, quants[name], cache_dir=tmp_path)
    assert found.source == f"bundled:starter/{name}"
    assert not found.needs_quantization
    here = dataclasses.replace(quants[name], source=QuantSource.local)
    found = locate_checkpoint(starter, here, cache_dir=tmp_path)
    assert found.needs_quantization == (name != "none")


def test_a_bundled_checkpoint_other_than_asked_is_refused(
    tmp_path: Path, quants: dict[str, QuantConfig]
) -> None:
    starter = ModelConfig(name="starter", weights=Weights.bundled)
    quant = dataclasses.replace(quants["gptq4"], group_size=32)
    with pytest.raises(ConfigError, match=r"group_size: asked 32.*quant\.source=local"):
        locate_checkpoint(starter, quant, cache_dir=tmp_path)
