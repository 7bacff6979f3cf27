"""A GGUF file becomes a checkpoint that holds its numbers, and says what they were."""

import errno
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from codejoule.config import ConfigError, UserError, conf_folder
from codejoule.config.compose import register_schemas
from codejoule.config.schema import Method, ModelConfig, QuantConfig
from codejoule.config.typed import to_experiment
from codejoule.models import (
    Checkpoint,
    gguf,
    load_model,
    load_tokenizer,
    locate_checkpoint,
    locate_served,
)
from codejoule.models.compat import CPU_ALLOCATOR
from codejoule.models.folder import has_chat_template
from codejoule.models.gguf import gguf_config, gguf_facts, gguf_has_chat_template, prove_numbers
from tests.models.tiny_gguf import write_tiny_gguf

MakeModel = Callable[..., ModelConfig]


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The file and what was written to it."""
    file = tmp_path_factory.mktemp("gguf") / "Tiny-Q8_0.gguf"
    return file, write_tiny_gguf(file, chat=True)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unpacked")


@pytest.fixture
def found(
    stored: tuple[Path, dict[str, Any]],
    cache: Path,
    make_model: MakeModel,
    quants: dict[str, QuantConfig],
) -> Callable[..., Checkpoint]:
    def locate(quant: str = "none", file: Path | None = None) -> Checkpoint:
        return locate_checkpoint(make_model(file or stored[0]), quants[quant], cache_dir=cache)

    return locate


def test_what_is_loaded_has_the_files_numbers_and_says_what_they_were(
    stored: tuple[Path, dict[str, Any]],
    found: Callable[..., Checkpoint],
    make_model: MakeModel,
    quants: dict[str, QuantConfig],
) -> None:
    file, written = stored
    checkpoint, model = found(), make_model(file)
    loaded = load_model(checkpoint, model, quants["none"], device="cpu")
    facts = loaded.facts
    assert facts.stored_as == "GGUF Q8_0, dequantized to float16"
    assert facts.stored_modules is not None
    assert {"name": "blk.*.attn_q.weight", "type": "Q8_0", "count": 2} in facts.stored_modules
    assert (facts.dtype, facts.quantization, facts.weights) == ("float32", "none", "local")
    assert facts.source == f"local:{file} (GGUF Q8_0, dequantized to float16)"
    assert facts.n_parameters == gguf_facts(file).weights
    blocks = loaded.model.get_submodule("model.layers")
    down = blocks[1].mlp.down_proj.weight.detach().numpy()
    assert np.abs(down - written["blk.1.ffn_down"]).max() < 2e-3, "a step of eight bits"
    # Rows of queries and keys lie in another order there; the numbers are the same.
    queries = blocks[0].self_attn.q_proj.weight.detach().numpy()
    assert np.abs(np.sort(queries, axis=None) - np.sort(written["blk.0.attn_q"], axis=None)).max() < 2e-3  # fmt: skip
    tokenizer = load_tokenizer(checkpoint, model)
    assert tokenizer.decode(tokenizer("def f(x):").input_ids) == "def f(x):"
    assert tokenizer.chat_template and gguf_has_chat_template(file)
    assert has_chat_template(checkpoint.path or Path())


def test_it_is_dequantized_once_and_its_contents_identify_it(
    tmp_path: Path, found: Callable[..., Checkpoint], stored: tuple[Path, dict[str, Any]]
) -> None:
    first, again = found(), found()
    assert first == again and first.path is not None
    assert first.checksum.startswith("gguf:")
    moved = tmp_path / "renamed.gguf"
    moved.write_bytes(stored[0].read_bytes())
    assert found(file=moved).path == first.path
    other = tmp_path / "other.gguf"
    write_tiny_gguf(other, seed=1)
    assert found(file=other).checksum != first.checksum


def test_it_is_quantized_here_like_any_other_checkpoint(found: Callable[..., Checkpoint]) -> None:
    base, checkpoint = found(), found("gptq4")
    assert checkpoint.needs_quantization and checkpoint.base_path == base.path
    assert checkpoint.quantization == "gptq-4bit-g32"
    assert checkpoint.stored_as == base.stored_as


def test_a_server_needs_the_tokenizer_alone_and_computes_with_the_blocks(
    stored: tuple[Path, dict[str, Any]],
    cache: Path,
    make_model: MakeModel,
    quants: dict[str, QuantConfig],
) -> None:
    model = make_model(stored[0])
    packed = QuantConfig(name="gguf", method=Method["gguf"], bits=4, group_size=32)
    served = locate_served(model, replace(packed, bits=8), cache_dir=cache)
    digest = hashlib.sha256(stored[0].read_bytes()).hexdigest()
    assert (served.stored_as, served.checksum) == ("GGUF Q8_0", f"gguf:{digest}")
    assert served.path is not None and not list(served.path.glob("*.safetensors"))
    assert load_tokenizer(served, model).decode([257]) == "<|endoftext|>"
    for quant in (quants["none"], packed, quants["gptq8"]):
        with pytest.raises(ConfigError, match=r"most are Q8_0; say so \(quant=gguf quant.bits=8"):
            locate_served(model, quant, cache_dir=cache)


def test_other_engines_say_what_they_do_with_such_a_file(stored: tuple[Path, Any]) -> None:
    register_schemas()
    overrides = [f"model={stored[0]}", "quant=gguf"]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        composed = compose("config", overrides)
    with pytest.raises(ConfigError, match=r"has no gguf.*or engine=server; quant=none runs a GGUF"):
        to_experiment(composed)


@pytest.mark.parametrize(("kind", "dtype"), [("BF16", "bfloat16"), ("F16", "float16")])
def test_sixteen_bits_stay_what_they_are(kind: str, dtype: str, tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    write_tiny_gguf(file, kind=kind)
    facts = gguf_facts(file)
    assert (facts.kind, facts.dtype, facts.told) == (kind, dtype, f"GGUF {kind}")
    assert gguf_config(file)["dtype"] == dtype
    assert gguf_config(file)["num_hidden_layers"] == 2
    assert not gguf_has_chat_template(file)


def test_a_file_that_lacks_a_tensor_is_refused(
    tmp_path: Path, found: Callable[..., Checkpoint], cache: Path
) -> None:
    before = set(cache.iterdir())
    file = tmp_path / "half.gguf"
    write_tiny_gguf(file, without=["blk.1.ffn_down"])
    with pytest.raises(UserError, match=r"lacks 1 tensor .*layers\.1\.mlp\.down_proj\.weight"):
        found(file=file)
    assert set(cache.iterdir()) == before, "nothing half done is left"


def test_numbers_that_the_library_reads_otherwise_are_refused(
    stored: tuple[Path, dict[str, Any]],
    found: Callable[..., Checkpoint],
    make_model: MakeModel,
    quants: dict[str, QuantConfig],
) -> None:
    net = load_model(found(), make_model(stored[0]), quants["none"], device="cpu").model
    prove_numbers(stored[0], net)
    net.get_submodule("model.layers.1.mlp.up_proj").weight.data *= 1.001
    with pytest.raises(UserError, match=r"makes other numbers of the tensor blk\.1\.ffn_up"):
        prove_numbers(stored[0], net)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"architecture": "nonsense"}, "transformers .* cannot read this GGUF .*nonsense"),
        ({"parts": 3}, "one of 3 parts of a model; join them"),
    ],
)
def test_what_cannot_be_read_is_told_with_a_way_out(
    content: dict[str, Any], said: str, tmp_path: Path, found: Callable[..., Checkpoint]
) -> None:
    file = tmp_path / "x.gguf"
    write_tiny_gguf(file, **content)
    with pytest.raises(UserError, match=said):
        found(file=file)


def test_a_file_that_ends_early_is_told(tmp_path: Path, found: Callable[..., Checkpoint]) -> None:
    file = tmp_path / "x.gguf"
    write_tiny_gguf(file)
    file.write_bytes(file.read_bytes()[:4000])
    with pytest.raises(UserError, match=r"cannot be read as GGUF .* download it again"):
        found(file=file)


def test_a_machine_too_small_for_it_is_told_before_anything_is_read(
    tmp_path: Path, found: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "Big-Q8_0.gguf"
    write_tiny_gguf(file, seed=2)
    monkeypatch.setattr(gguf.HostMemory, "available_bytes", lambda self: 2**10)
    with pytest.raises(UserError, match=r"Big-Q8_0\.gguf: .* takes at least 0\.0 GiB of memory"):
        found(file=file)


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (MemoryError("Unable to allocate 4 GiB"), UserError, "out of memory .*4 GiB.*; end what"),
        (RuntimeError(f"[{CPU_ALLOCATOR}] no"), UserError, "out of memory .*; end what"),
        (OSError(errno.ENOSPC, "No space left on device"), OSError, "No space left"),
        (OSError("no such architecture"), UserError, "cannot read this GGUF"),
    ],
)
def test_what_the_machine_lacks_is_not_called_the_files_fault(
    error: Exception,
    raised: type[Exception],
    said: str,
    tmp_path: Path,
    found: Callable[..., Checkpoint],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", fail)
    file = tmp_path / "x.gguf"
    write_tiny_gguf(file, seed=3)
    with pytest.raises(raised, match=said):
        found(file=file)


def test_sums_of_parts_are_those_of_the_whole(
    stored: tuple[Path, dict[str, Any]],
    found: Callable[..., Checkpoint],
    make_model: MakeModel,
    quants: dict[str, QuantConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = load_model(found(), make_model(stored[0]), quants["none"], device="cpu").model
    monkeypatch.setattr(gguf, "_AT_ONCE", 640)
    prove_numbers(stored[0], net)
    net.get_submodule("model.layers.1.mlp.up_proj").weight.data[-1] *= 1.1
    with pytest.raises(UserError, match=r"makes other numbers of the tensor blk\.1\.ffn_up"):
        prove_numbers(stored[0], net)
