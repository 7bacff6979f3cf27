"""A library that is not installed is named with the extra that brings it."""

import ast
import re
import sys
from importlib.metadata import requires

import pytest

from codejoule.config import checkout
from codejoule.config.explain import explain
from codejoule.config.extras import how_to_install

ROOT = checkout()

BROUGHT_BY_OTHERS = {
    "datasets": "gptqmodel needs it",
    "tokenizers": "transformers needs it",
    "triton": "PyTorch brings it where it can use it",
    "vllm": "it has an environment of its own",
    "codejoule": "ourselves",
    "hydra_plugins": "ourselves",
}


def imported() -> set[str]:
    found: set[str] = set()
    for file in (ROOT / "src").rglob("*.py"):
        if "vllm/worker" in str(file) or "_inside" in str(file):
            continue  # they run in other environments
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - set(BROUGHT_BY_OTHERS)


def test_every_library_that_is_imported_is_in_the_core_or_in_an_extra() -> None:
    assert {name for name in imported() if how_to_install(name) is None} == set()


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("torch.nn", "pip install 'codejoule[run]'"),
        ("bitsandbytes", "pip install 'codejoule[gpu]'"),
        ("optuna", "pip install 'codejoule[optuna]'"),
        ("mlflow", "pip install codejoule"),
        ("nobodys", None),
    ],
)
def test_the_smallest_extra_is_named(module: str, command: str | None) -> None:
    said = explain(ModuleNotFoundError(f"No module named {module!r}", name=module), ())
    library = module.partition(".")[0]
    assert said == (command and f"{library} is not installed, which this needs: {command}")


def test_every_requirement_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {plain(line.partition("==")[0]) for line in lines if "==" in line}
    wanted = {plain(re.match(r"[\w.-]+", line)[0]) for line in requires("codejoule") or ()}  # type: ignore[index]
    assert wanted - pinned == set()


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
