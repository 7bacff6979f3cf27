"""What an engine is, is declared once: nobody asks for its name."""

import ast

import pytest

from codejoule.config import checkout, conf_folder
from codejoule.domain.engines import ENGINES, OWN_KEYS, EngineName, engines_with
from codejoule.generation import Engine, engine_class

SOURCE = checkout() / "src" / "codejoule"
DECLARATION = SOURCE / "domain" / "engines.py"


def asks_for_an_engine(node: ast.AST) -> bool:
    """Whether it names one engine, or compares the name of the one that was chosen."""
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and node.value.id == "EngineName"
    if isinstance(node, ast.Compare):
        sides = [ast.unparse(side) for side in (node.left, *node.comparators)]
        return any(side.endswith(("engine.name", "engine.name.value")) for side in sides)
    return isinstance(node, ast.Match) and ast.unparse(node.subject).endswith("engine.name")


def test_no_module_asks_which_engine_it_is() -> None:
    asking = {
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in SOURCE.rglob("*.py")
        if path != DECLARATION
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if asks_for_an_engine(node)
    }
    assert not asking, "say it in codejoule.domain.engines instead"


@pytest.mark.parametrize(
    "code",
    ["x is EngineName.graph", "if plan.engine.name == x: pass", "match engine.name:\n case _: 1"],
)
def test_asking_is_found(code: str) -> None:
    assert any(map(asks_for_an_engine, ast.walk(ast.parse(code))))


@pytest.mark.parametrize("name", EngineName)
def test_an_engine_is_a_declaration_a_module_and_a_file_of_its_name(name: EngineName) -> None:
    assert set(ENGINES[name].keys) <= set(OWN_KEYS)
    assert set(ENGINES[name].needs) <= set(ENGINES[name].keys)
    assert issubclass(engine_class(name), Engine)
    assert (conf_folder() / "engine" / f"{name.value}.yaml").is_file()


def test_every_key_is_some_engines() -> None:
    assert all(engines_with(key) for key in OWN_KEYS)
