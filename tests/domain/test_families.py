"""An architecture family is known in one module."""

import ast

from codejoule.config import checkout
from codejoule.domain import FAMILIES, Architecture, Quantization, Workload
from codejoule.domain.architecture import Family
from codejoule.domain.attention import Attention
from codejoule.estimate import count_parameters, memory_needed

SOURCE = checkout() / "src" / "codejoule"
OWN = SOURCE / "domain" / "families"


def test_nothing_else_asks_which_family_it_is() -> None:
    found = [
        f"{file.relative_to(SOURCE)}:{node.lineno}"
        for file in SOURCE.rglob("*.py")
        if OWN not in file.parents
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        if isinstance(side, ast.Constant) and side.value in FAMILIES
    ]
    assert found == []


def test_each_family_has_a_module_of_its_name() -> None:
    assert {file.stem for file in OWN.glob("[a-z]*.py")} == set(FAMILIES)
    assert all(family.model_type == name for name, family in FAMILIES.items())


def test_a_family_of_one_s_own_is_estimated_like_the_others(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def read(fields: dict[str, object], **heads: int) -> dict[str, object]:
        attention = Attention(**heads, qkv_bias=False, output_bias=False)
        return {"attention": attention, "mlp_bias": False}

    toy = Family(model_type="toy", read=read, compiled_step=False)
    monkeypatch.setitem(FAMILIES, "toy", toy)
    config = {
        "model_type": "toy", "vocab_size": 320, "hidden_size": 128, "intermediate_size": 256,
        "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 256,
    }  # fmt: skip
    architecture = Architecture.from_config(config)
    llama = Architecture.from_config(config | {"model_type": "llama"})
    assert count_parameters(architecture) == count_parameters(llama)
    work = Workload(
        architecture=architecture, quantization=Quantization(), dtype="float16", batch=1,
        prompt_tokens=4, new_tokens=4,
    )  # fmt: skip
    assert memory_needed(work).kv_cache_bytes == 7 * 2 * 2 * 128 * 2
