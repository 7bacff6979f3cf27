"""The ``config.json`` of random weights, for an engine that makes them by itself."""

from pathlib import Path

import pytest

from codejoule.config.schema import Method, QuantConfig
from codejoule.domain import METHODS
from codejoule.models import write_config
from codejoule.models.declared import declared_quantization, with_group_size
from codejoule.models.folder import read_config
from codejoule.models.quantization import quantizer_of

ARCHITECTURE = {
    "model_type": "qwen2", "vocab_size": 320, "hidden_size": 128, "intermediate_size": 256,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "max_position_embeddings": 256,
}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "bits", "sym", "group"),
    [
        ("gptq", 4, True, 128), ("gptq", 8, True, 128), ("awq", 4, False, 128),
        ("w4a16", 4, True, 128), ("w4a16", 4, False, 128), ("w8a8", 8, True, -1),
        ("fp8_dynamic", 8, True, -1), ("fp8_block", 8, True, 128), ("mxfp4", 4, True, 32),
        ("nvfp4", 4, True, 16),
    ],
)  # fmt: skip
def test_what_is_declared_is_read_back_as_what_was_asked(
    tmp_path: Path, method: str, bits: int, sym: bool, group: int
) -> None:
    sizes = METHODS[method].group_sizes or {}
    asked = QuantConfig(
        name=method, method=Method[method], bits=bits, sym=sym, group_size=sizes.get(bits)
    )
    asked = with_group_size(asked, ARCHITECTURE)
    write_config(ARCHITECTURE, quantizer_of(method).declaration(asked, ARCHITECTURE), tmp_path)
    found = read_config(tmp_path)
    assert found["architectures"] == ["Qwen2ForCausalLM"]
    declared = declared_quantization(found)
    assert declared is not None and declared.differences(asked) == []
    assert (declared.method, declared.bits, declared.group_size) == (method, bits, group)


def test_unquantized_weights_declare_nothing(tmp_path: Path) -> None:
    none = quantizer_of("none").declaration(QuantConfig(name="none"), ARCHITECTURE)
    write_config(ARCHITECTURE, none, tmp_path)
    assert "quantization_config" not in read_config(tmp_path)
