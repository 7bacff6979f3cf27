"""A quantization method is known in two places: its entry of facts and its module."""

import ast

import pytest

from codejoule.config import checkout, conf_folder
from codejoule.config.schema import Method
from codejoule.domain import METHODS
from codejoule.models.quantization import quantizer_of, quantizers

SOURCE = checkout() / "src" / "codejoule"
OWN = {SOURCE / "domain" / "quantization.py", *(SOURCE / "models" / "quantization").glob("*.py")}
# The estimator of the thesis has its own table of the quantizations that it knows.
ELSEWHERE = SOURCE / "thesis"


def asks_which_method(node: ast.AST) -> bool:
    """Whether an expression compares a method, or looks one up by its name."""
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and node.value.id == "Method"
    if not isinstance(node, ast.Compare):
        return False
    sides = [ast.unparse(side) for side in (node.left, *node.comparators)]
    method = any(
        side.endswith((".method", "quant_method", ".method.name")) or side == "method"
        for side in sides
    )
    names = any(repr(name) in side for name in METHODS for side in sides)
    return method and names


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("quant.method is Method.gptq", True),
        ("quant.method in (Method.gptq, Method.awq)", True),
        ("{Method.bnb: 1}", True),
        ("quantization.method == 'bnb' and quantization.bits == 8", True),
        ("quant.method.name in ('gptq', 'awq')", True),
        ("method not in METHODS", False),
        ("METHODS[quant.method.name].packed", False),
        ("Method['none']", False),
    ],
)
def test_a_question_is_known_when_it_is_seen(text: str, asks: bool) -> None:
    assert any(map(asks_which_method, ast.walk(ast.parse(text)))) is asks


def test_nothing_else_asks_which_method_it_is() -> None:
    found = [
        f"{file.relative_to(SOURCE)}:{node.lineno}"
        for file in SOURCE.rglob("*.py")
        if file not in OWN and ELSEWHERE not in file.parents
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.expr) and asks_which_method(node)
    ]
    assert found == []


def test_each_method_has_facts_a_module_and_a_file_of_its_name() -> None:
    assert [method.name for method in Method] == list(METHODS)
    assert [quantizer.name for quantizer in quantizers()] == list(METHODS)
    modules = {file.stem for file in OWN}
    configured = (conf_folder() / "quant").glob("*.yaml")
    named = {line for file in configured for line in file.read_text().splitlines()}
    for name, facts in METHODS.items():
        assert name in modules
        assert f"method: {name}" in named or not facts.bits
        assert facts.bits or facts.layer_bytes is None
        assert bool(facts.bits) == bool(quantizer_of(name).kernels)


def test_facts_of_a_method_need_no_library() -> None:
    text = (SOURCE / "domain" / "quantization.py").read_text(encoding="utf-8")
    imported = {
        node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)
    }
    assert all(name and not name.startswith(("torch", "gptqmodel")) for name in imported)
