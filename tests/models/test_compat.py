"""What is used of libraries beyond their documented interfaces is still there.

A failure names the library and the versions for which its private interface was seen to hold:
either pin it to those, or mend the one function of `codejoule.models.compat`.
"""

import ast
import os
from importlib import import_module
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.specifiers import SpecifierSet

from codejoule.config import checkout
from codejoule.models import compat

MODELS = checkout() / "src" / "codejoule" / "models"


def said(library: str) -> str:
    return (
        f"{library} {version(library)} is installed; codejoule.models.compat holds for "
        f"{library} {compat.HOLDS_FOR[library]}"
    )


@pytest.mark.parametrize(("library", "place"), compat.PRIVATE, ids=str)
def test_a_private_interface_is_where_it_was(library: str, place: str) -> None:
    module, _, name = place.partition(":")
    try:
        attrgetter(name)(import_module(module))
    except (ImportError, AttributeError) as error:
        pytest.fail(f"{place} is gone ({error}): {said(library)}")


@pytest.mark.parametrize("library", compat.HOLDS_FOR)
def test_the_tested_versions_are_those_for_which_it_holds(library: str) -> None:
    pinned = (checkout() / "constraints.txt").read_text().lower().splitlines()
    tested = next(line.partition("==")[2] for line in pinned if line.startswith(f"{library}=="))
    assert tested in SpecifierSet(compat.HOLDS_FOR[library]), said(library)


def test_a_model_keeps_what_compat_asks_it_for() -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "qwen2", hidden_size=64, intermediate_size=64, num_hidden_layers=1, vocab_size=32,
        num_attention_heads=2, num_key_value_heads=1,
    )  # fmt: skip
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    assert compat.attention_of(model.config) == "sdpa", said("transformers")
    assert "past_key_values" in compat.kept_on_device(model), said("transformers")
    assert compat.kept_in_float32(model) == []


def test_a_tensor_of_a_quantizing_library_shows_what_is_inside() -> None:
    import torch

    quantization = pytest.importorskip("torchao.quantization")
    linear = torch.nn.Linear(64, 32, bias=False)
    quantization.quantize_(linear, quantization.Int8WeightOnlyConfig())
    found = {part.dtype for part in compat.tensors_inside(linear.weight)}
    assert torch.int8 in found, said("torch")


def test_no_other_module_touches_what_is_private() -> None:
    """Names with an underscore of other libraries' objects, and places that `PRIVATE` names."""
    names = {place.rpartition(".")[2].rpartition(":")[2] for _, place in compat.PRIVATE}
    names -= {"Params4bit", "Int8Params", "BaseQuantLinear", "post_init"}
    found = [
        f"{file.relative_to(MODELS)}:{node.lineno}"
        for file in MODELS.rglob("*.py")
        if file.name != "compat.py"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute | ast.ImportFrom)
        and names
        & ({node.attr} if isinstance(node, ast.Attribute) else {a.name for a in node.names})
    ]
    assert found == []


@pytest.mark.parametrize(
    ("module", "name"),
    [("torch.cuda", "get_device_capability"), ("torch.utils._triton", "has_triton")],
)
def test_what_libraries_ask_of_gpus_is_asked_by_forks_and_but_once(
    module: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    askers = tmp_path / "askers"

    def question(*arguments: int) -> tuple[int, ...]:
        with askers.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return (9, *arguments)

    monkeypatch.setattr(f"{module}.{name}", question)
    holder = import_module(module)
    with compat.cuda_asked_in_forks():
        assert [getattr(holder, name)(0) for _ in range(3)] == [(9, 0)] * 3
        assert not torch.cuda.is_initialized()
    (asker,) = askers.read_text().split()
    assert int(asker) != os.getpid()
    assert getattr(holder, name)(1) == (9, 1)
    assert askers.read_text().split()[-1] == str(os.getpid())
