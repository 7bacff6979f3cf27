"""Imports stand at the top of a module, where a reader looks for them, but for large libraries."""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "codejoule"

LARGE = """
    accelerate bitsandbytes datasets defuser gguf gptqmodel httpx huggingface_hub hydra jinja2
    matplotlib mlflow optimum pandas psutil pyarrow pynvml ray requests safetensors
    peft scikit_posthocs scipy statsmodels tokenizers torch torchao transformers triton vllm zeus
"""
"""Libraries that cost time, or that say something of this machine's devices alone: imported where
they are used, so that ``--cfg job`` and ``--help`` do without them."""

EXCEPTIONS = {
    "cli codejoule": "a command's rooms are imported when it is called",
    "thesis/command.py codejoule": "commands, as in cli",
    "experiment/callback.py codejoule": "Hydra imports it for each `--cfg job`: 0.6 s so",
    "experiment/evaluation_stage.py codejoule": "spread, which judges by it on each node of Ray",
    "experiment/callback.py omegaconf": "the same",
    "generation/graph/gemv.py codejoule": "its kernels need triton, which is there with a GPU alone",
}
"""File or room, package that it imports late, and why that may be."""


def late_imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and module of each import inside a function."""
    tree = ast.parse(file.read_text())
    functions = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    for node in (node for function in functions for node in ast.walk(function)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or "."


def may_be_late(file: str, module: str) -> bool:
    package = module.partition(".")[0]
    places = (f"{file} {package}", f"{file.partition('/')[0]} {package}")
    return package in LARGE.split() or any(place in EXCEPTIONS for place in places)


def test_what_is_not_large_is_imported_at_the_top() -> None:
    late = {
        f"{name}, line {line}: {module}"
        for file in sorted(SOURCE.rglob("*.py"))
        for line, module in late_imports(file)
        if not may_be_late(name := str(file.relative_to(SOURCE)), module)
    }
    assert not late, "import these at the top of their module"
