"""Each field of a quantization_config that changes how tensors are read is obeyed or refused."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codejoule.config import ConfigError, UserError
from codejoule.config.schema import ModelConfig, QuantConfig
from codejoule.models import load_model, locate_checkpoint
from codejoule.models.check import BUNDLED_ROOT
from codejoule.models.declared import declared_quantization
from codejoule.models.folder import generation_defaults, read_config
from codejoule.models.quantization.base import DeclaredQuantization


def read_quantization(fields: dict[str, Any]) -> DeclaredQuantization:
    declared = declared_quantization({"quantization_config": fields})
    assert declared is not None
    return declared


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}


@pytest.mark.parametrize(
    ("fields", "layout"),
    [
        (GPTQ, "gptq"),
        (GPTQ | {"checkpoint_format": "gptq"}, "gptq"),
        (GPTQ | {"format": "GPTQ_V2"}, "gptq_v2"),
        (GPTQ | {"checkpoint_format": "gptq_v2", "format": "gptq_v2"}, "gptq_v2"),
        (GPTQ | {"is_marlin_format": False, "lm_head": False, "pack_dtype": "torch.int32"}, "gptq"),
        (AWQ, "gemm"),
        (AWQ | {"version": "GEMM", "checkpoint_format": "gemm"}, "gemm"),
        # AutoAWQ's and AutoGPTQ's own files name no method.
        ({"w_bit": 4, "q_group_size": 64, "zero_point": True, "version": "GEMM"}, "gemm"),
        ({"bits": 8, "group_size": 64, "sym": True, "desc_act": False}, "gptq"),
    ],
)
def test_a_layout_that_can_be_read_is_known(fields: dict[str, Any], layout: str) -> None:
    assert read_quantization(fields).layout == layout


def test_groups_are_of_128_where_no_size_is_named() -> None:
    assert read_quantization({"quant_method": "awq", "bits": 4}).group_size == 128


@pytest.mark.parametrize("layout", ["gptq_p", "marlin", "bitblas", "gptq_v3", "gemv"])
@pytest.mark.parametrize("key", ["checkpoint_format", "format"])
def test_another_layout_of_gptq_is_refused_with_the_choices(key: str, layout: str) -> None:
    with pytest.raises(ConfigError, match=f"layout '{layout}'.*these: gptq, gptq_v2"):
        read_quantization(GPTQ | {key: layout})


@pytest.mark.parametrize("layout", ["gemv", "gemv_fast", "llm-awq", "marlin", "gptq"])
def test_another_layout_of_awq_is_refused_with_the_choices(layout: str) -> None:
    with pytest.raises(ConfigError, match=f"layout '{layout}'.*these: gemm"):
        read_quantization(AWQ | {"version": layout})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pack_dtype": "int16"}, "pack_dtype=int16"),
        ({"pack_dtype": "torch.int64"}, "pack_dtype=int64"),
        ({"is_marlin_format": True}, r"Marlin's own layout \(is_marlin_format\)"),
        ({"lm_head": "true"}, "quantized output layer"),
        ({"rotation": "hadamard"}, "rotated weights"),
        ({"activation": {"bits": 8}}, "quantized activations"),
        ({"adapter": {"name": "lora"}}, "an adapter"),
        ({"dynamic": {"+:.*down.*": {"bits": 8}}}, r"layers \+:\.\*down\.\* \(dynamic\)"),
        ({"dynamic": {".*down.*": {"group_size": 32}}}, r"layers \.\*down\.\* \(dynamic\)"),
        ({"dynamic": {"-:(": {}}}, "no regular expression"),
        ({"backend": "llm-awq"}, "backend=llm-awq"),
    ],
)
def test_what_nothing_reads_is_refused_by_its_name(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_quantization(GPTQ | fields)


@given(
    bits=st.sampled_from([2, 3, 4, 8]),
    group_size=st.sampled_from([-1, 32, 128]),
    sym=st.booleans(),
    write=st.sampled_from([lambda v: v, str, lambda v: float(v) if v is not True else v]),
)
def test_numbers_written_as_texts_mean_the_same(
    bits: int, group_size: int, sym: bool, write: Callable[[Any], Any]
) -> None:
    fields = GPTQ | {"bits": write(bits), "group_size": write(group_size), "sym": str(sym).lower()}
    read = read_quantization(fields)
    assert (read.bits, read.group_size, read.sym) == (bits, group_size, sym)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bits", "four"), ("bits", 4.5), ("bits", True), ("bits", [4]), ("bits", "4.5"),
        ("group_size", "whole"), ("sym", "maybe"), ("sym", 2), ("desc_act", "0.5"),
        ("checkpoint_format", 2), ("quant_method", ["gptq"]),
    ],
)  # fmt: skip
def test_a_value_that_means_nothing_is_a_sentence(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"quantization_config\.{key}={re.escape(repr(value))}"):
        read_quantization(GPTQ | {key: value})


@pytest.mark.parametrize(
    "fields",
    [
        GPTQ | {"checkpoint_format": "gptq", "format": "gptq_v2"},
        GPTQ | {"w_bit": 8},
        GPTQ | {"zero_point": True},
        AWQ | {"version": "gemm", "format": "gemv"},
        GPTQ | {"method": "awq"},
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="contradict each other"):
        read_quantization(fields)


def test_of_other_methods_only_the_name_is_read() -> None:
    read = read_quantization({"quant_method": "FP8", "bits": "e4m3", "format": "other"})
    assert (read.method, read.bits, read.layout) == ("fp8", None, None)


def test_layers_that_are_left_out_are_found_by_part_or_expression() -> None:
    fields = AWQ | {"modules_to_not_convert": ["gate.x"], "dynamic": {"-:model.*down": {}}}
    excepted = read_quantization(fields).excepted

    def left_out(name: str) -> bool:
        return any(re.search(part, name) for part in excepted)

    assert left_out("model.layers.0.gate.x.y")
    assert not left_out("model.layers.0.gate_x.y")
    assert left_out("model.layers.0.mlp.down_proj")
    assert not left_out("other.model.layers.0.mlp.down_proj")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The starter's gptq4, as other tools may leave one."""
    made = tmp_path / "gptq4"
    shutil.copytree(BUNDLED_ROOT / "starter" / "gptq4", made)
    return made


def rewrite(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    fields = json.loads(file.read_text())
    change(fields)
    file.write_text(json.dumps(fields))


@pytest.mark.parametrize("name", ["quantize_config.json", "quant_config.json"])
def test_a_quantization_that_stands_in_another_file_alone_is_refused(
    name: str, folder: Path
) -> None:
    rewrite(folder / "config.json", lambda fields: fields.pop("quantization_config"))
    (folder / "quantize_config.json").rename(folder / name)
    with pytest.raises(ConfigError, match=f"stands in {name} alone.*quantization_config"):
        read_config(folder)


def test_what_the_quantizers_file_says_is_part_of_the_checkpoints_identity(
    folder: Path, make_model: Callable[..., ModelConfig], quants: dict[str, QuantConfig]
) -> None:
    model = make_model(folder)
    before = locate_checkpoint(model, quants["gptq4"], cache_dir=folder).checksum
    rewrite(folder / "quantize_config.json", lambda fields: fields.update(damp_percent=0.1))
    assert locate_checkpoint(model, quants["gptq4"], cache_dir=folder).checksum != before


@pytest.mark.parametrize("name", ["gptq8", "gptq4", "awq"])
def test_the_bundled_checkpoints_are_understood(name: str) -> None:
    declared = declared_quantization(read_config(BUNDLED_ROOT / "starter" / name))
    assert declared is not None
    assert declared.bits == (8 if name == "gptq8" else 4)
    assert declared.sym == (name != "awq")
    assert declared.excepted == ()


def test_bits_written_as_text_load(
    folder: Path, make_model: Callable[..., ModelConfig], quants: dict[str, QuantConfig]
) -> None:
    def as_text(fields: dict[str, Any]) -> None:
        fields["quantization_config"] |= {"bits": "4", "group_size": "128", "sym": "True"}

    rewrite(folder / "config.json", as_text)
    model = make_model(folder)
    found = locate_checkpoint(model, quants["gptq4"], cache_dir=folder)
    assert load_model(found, model, quants["gptq4"], device="cpu").facts.bits == 4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", "128"),
        ("num_hidden_layers", 3.5),
        ("eos_token_id", "0"),
        ("dtype", "floaty"),
    ],
)
def test_numbers_of_the_architecture_that_transformers_refuses_are_a_sentence(
    key: str,
    value: Any,
    folder: Path,
    make_model: Callable[..., ModelConfig],
    quants: dict[str, QuantConfig],
) -> None:
    rewrite(folder / "config.json", lambda fields: fields.update({key: value}))
    model = make_model(folder)
    found = locate_checkpoint(model, quants["gptq4"], cache_dir=folder)
    with pytest.raises(ConfigError, match=r"config\.json: transformers refuses it \(") as told:
        load_model(found, model, quants["gptq4"], device="cpu")
    assert "\n" not in str(told.value)


def test_generation_defaults_that_cannot_be_read_are_a_sentence(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": ')
    with pytest.raises(ConfigError, match=r"generation_config\.json: transformers refuses it"):
        generation_defaults(folder)


@pytest.mark.parametrize("gone", [["tokenizer.json"], ["tokenizer.json", "tokenizer_config.json"]])
def test_a_folder_without_a_tokenizer_is_told(
    gone: list[str],
    folder: Path,
    make_model: Callable[..., ModelConfig],
    quants: dict[str, QuantConfig],
) -> None:
    for name in gone:
        (folder / name).unlink()
    model = make_model(folder)
    found = locate_checkpoint(model, quants["gptq4"], cache_dir=folder)
    with pytest.raises(UserError, match=r"holds no tokenizer \(none of merges\.txt, tokenizer"):
        load_model(found, model, quants["gptq4"], device="cpu")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_that_is_cut_off_is_told(
    name: str,
    folder: Path,
    make_model: Callable[..., ModelConfig],
    quants: dict[str, QuantConfig],
) -> None:
    text = (folder / name).read_text()
    (folder / name).write_text(text[: len(text) // 2])
    model = make_model(folder)
    found = locate_checkpoint(model, quants["gptq4"], cache_dir=folder)
    with pytest.raises(UserError, match="its tokenizer cannot be read"):
        load_model(found, model, quants["gptq4"], device="cpu")
