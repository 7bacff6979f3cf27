import dataclasses
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codejoule.common.progress import told_to
from codejoule.config import ConfigError, UserError
from codejoule.config.schema import Method, ModelConfig, QuantConfig
from codejoule.models import load_model, locate_checkpoint, quantize_checkpoint
from tests.common.watcher import Notes

MakeModel = Callable[..., ModelConfig]


def test_a_checkpoint_is_made_once_and_then_found(
    tiny_folder: Path,
    tmp_path: Path,
    make_model: MakeModel,
    quants: dict[str, QuantConfig],
    calibration_texts: list[str],
) -> None:
    model, quant = make_model(tiny_folder), quants["gptq8"]
    found = locate_checkpoint(model, quant, cache_dir=tmp_path)
    with pytest.raises(UserError, match="not quantized yet"):
        load_model(found, model, quant, device="cpu")
    notes = Notes()
    with told_to(notes):
        folder = quantize_checkpoint(
            found, quant, calibration_texts=calibration_texts, device="cpu"
        )
    layers = json.loads((tiny_folder / "config.json").read_text())["num_hidden_layers"]
    assert notes.done[1:] == [
        f"quantizing to {quant.name}: {done} of {layers} layers done"
        for done in range(1, layers + 1)
    ]
    assert folder == found.path
    manifest = json.loads((folder / "codejoule.json").read_text())
    assert manifest["quantization"] == "gptq-8bit-g128"
    assert manifest["calibration_texts"] == len(calibration_texts)
    weights = (folder / "model.safetensors").stat().st_mtime_ns
    again = locate_checkpoint(model, quant, cache_dir=tmp_path)
    assert not again.needs_quantization
    assert again.checksum == found.checksum
    quantize_checkpoint(again, quant, calibration_texts=calibration_texts, device="cpu")
    assert (folder / "model.safetensors").stat().st_mtime_ns == weights
    assert load_model(found, model, quant, device="cpu").facts.bits == 8


def test_the_result_holds_the_bases_tokenizer_and_no_calibration_text_or_path(
    quantized: Callable[[str], Path], tiny_folder: Path, calibration_texts: list[str]
) -> None:
    folder = quantized("gptq4")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (folder / name).read_bytes() == (tiny_folder / name).read_bytes()
    for name in ("config.json", "quantize_config.json"):
        text = (folder / name).read_text()
        assert calibration_texts[0][:10] not in text
        assert str(tiny_folder.parent) not in text
        assert "/tmp" not in text
    assert not list(folder.parent.glob(".*"))


def test_a_group_size_that_does_not_divide_is_refused_with_those_that_do(
    tiny_folder: Path, tmp_path: Path, make_model: MakeModel, quants: dict[str, QuantConfig]
) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config["intermediate_size"] = 10944
    (folder / "config.json").write_text(json.dumps(config))
    asked = dataclasses.replace(quants["gptq4"], group_size=128)
    with pytest.raises(ConfigError, match=r"intermediate_size=10944 .* choose one of 64, 32, -1"):
        locate_checkpoint(make_model(folder), asked, cache_dir=tmp_path)
    found = locate_checkpoint(make_model(folder), quants["gptq4"], cache_dir=tmp_path)
    assert found.quantization == "gptq-4bit-g64"


def test_a_disk_too_small_is_told_before_anything_is_quantized(
    tiny_folder: Path, tmp_path: Path, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    quant = QuantConfig(name="gptq4", method=Method.gptq, bits=4)
    found = locate_checkpoint(make_model(tiny_folder), quant, cache_dir=tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"needs at least .* GiB, but .* quant\.cache_dir"):
        quantize_checkpoint(found, quant, calibration_texts=["x"], device="cpu")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 500 KiB; less than a quantized tiny model."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=500k", "tmpfs", str(disk)]
    done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"only root can mount a small disk: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_fills_up_while_quantizing_is_told_and_left_as_it_was(
    tiny_folder: Path,
    small_disk: Path,
    make_model: MakeModel,
    calibration_texts: list[str],
) -> None:
    quant = QuantConfig(name="gptq8", method=Method.gptq, bits=8)
    found = locate_checkpoint(make_model(tiny_folder), quant, cache_dir=small_disk)
    assert found.path is not None
    with pytest.raises(UserError) as caught:
        quantize_checkpoint(found, quant, calibration_texts=calibration_texts, device="cpu")
    text = str(caught.value)
    assert "No space left on device" in text
    assert str(small_disk) in text
    assert text.endswith("make room, or name another folder with quant.cache_dir")
    assert [file.suffix for file in small_disk.iterdir()] == [".log"]


def test_a_file_that_may_not_grow_is_told(
    tiny_folder: Path, tmp_path: Path, make_model: MakeModel, calibration_texts: list[str]
) -> None:
    quant = QuantConfig(name="gptq8", method=Method.gptq, bits=8)
    found = locate_checkpoint(make_model(tiny_folder), quant, cache_dir=tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot be written to .* \(File too large\)"):
            quantize_checkpoint(found, quant, calibration_texts=calibration_texts, device="cpu")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert found.path is not None
    assert not found.path.exists()


def test_what_gptqmodel_cannot_do_is_one_message_and_leaves_no_folder(
    tiny_folder: Path, tmp_path: Path, make_model: MakeModel
) -> None:
    quant = QuantConfig(name="gptq4", method=Method.gptq, bits=4)
    found = locate_checkpoint(make_model(tiny_folder), quant, cache_dir=tmp_path)
    with pytest.raises(UserError, match="gptqmodel cannot quantize") as caught:
        quantize_checkpoint(found, quant, calibration_texts=[], device="cpu")
    assert "its output is in" in str(caught.value)
    assert found.path is not None
    assert not found.path.exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("part", ["quantize", "add_batch"])
def test_what_fails_in_gptqmodel_s_workers_is_told_too(
    part: str,
    tiny_folder: Path,
    tmp_path: Path,
    make_model: MakeModel,
    calibration_texts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would end the process."""
    from gptqmodel.quantization.gptq import GPTQ

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the matrix is singular")

    monkeypatch.setattr(GPTQ, part, fail)
    quant = QuantConfig(name="gptq4", method=Method.gptq, bits=4)
    found = locate_checkpoint(make_model(tiny_folder), quant, cache_dir=tmp_path)
    wanted = pytest.raises(UserError, match=r"cannot quantize .* .RuntimeError: the matrix is sing")
    with wanted as caught:
        quantize_checkpoint(found, quant, calibration_texts=calibration_texts, device="cpu")
    assert "its output is in" in str(caught.value)
    assert found.path is not None
    assert not found.path.exists()


_WORKERS_CANNOT_START = """
import sys
from pathlib import Path
from gptqmodel.utils.threadx import _WorkerWarmupState
from codejoule.config.schema import Method, ModelConfig, QuantConfig, Weights
from codejoule.models import locate_checkpoint, quantize_checkpoint

def fail(*_, **__):
    raise RuntimeError("no memory is left")

_WorkerWarmupState.run = fail
model = ModelConfig(name="tiny", weights=Weights.local, path=sys.argv[1])
quant = QuantConfig(name="gptq4", method=Method.gptq, bits=4)
found = locate_checkpoint(model, quant, cache_dir=Path(sys.argv[2]))
quantize_checkpoint(found, quant, calibration_texts=sys.argv[3:], device="cpu")
"""


@pytest.mark.slow
def test_workers_that_cannot_start_end_the_process_with_a_reason(
    tiny_folder: Path, tmp_path: Path, calibration_texts: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WORKERS_CANNOT_START, tiny_folder, tmp_path, *calibration_texts],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "gptqmodel cannot start its workers (RuntimeError: no memory is left); free memory on the "
        "device, or use a published checkpoint (quant.source=hub)"
    )
