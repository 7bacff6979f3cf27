"""What the engines use of transformers, torch and gptqmodel without a promise is still there."""

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from codejoule.generation import compat
from tests.compat import holds


def test_the_attention_of_a_model_is_told(model: Any) -> None:
    with holds(compat, "transformers", "attention_implementation"):
        assert compat.attention_implementation(model) in ("sdpa", "eager", "flash_attention_2")


def test_a_compiled_step_is_seen(model: Any) -> None:
    from transformers import CompileConfig

    with holds(compat, "transformers", "has_compiled_step"):
        assert not compat.has_compiled_step(model)
        model.get_compiled_call(CompileConfig())
        assert compat.has_compiled_step(model)


def test_the_size_of_a_page_can_be_set() -> None:
    from transformers import ContinuousBatchingConfig

    with holds(compat, "transformers", "page_setting"):
        assert ContinuousBatchingConfig(**{compat.page_setting(): 256})


def test_prompts_are_read_by_transformers_attention() -> None:
    query, key, value = torch.randn(3, 1, 2, 5, 4).unbind()
    module = SimpleNamespace(is_causal=True, num_key_value_groups=1)
    with holds(compat, "transformers", "prompt_attention"):
        out, _ = compat.prompt_attention()(module, query, key, value, None, is_causal=True)
        first = value[:, :, 0]
        assert out.shape == (1, 5, 2, 4) and torch.allclose(out[:, 0], first)


def test_queries_and_keys_are_turned() -> None:
    query, key = torch.randn(2, 1, 2, 5, 4).unbind()
    still = (torch.ones(1, 5, 4), torch.zeros(1, 5, 4))
    with holds(compat, "transformers", "rotate"):
        turned = compat.rotate(query, key, still)
        assert torch.equal(turned[0], query) and torch.equal(turned[1], key)


def test_sizes_can_be_told_to_vary() -> None:
    tensor = torch.zeros(3, 4)
    with holds(compat, "torch", "sizes_vary"):
        compat.sizes_vary(tensor, 0)
        assert tensor._dynamo_dynamic_indices == {0}  # type: ignore[attr-defined]


def test_padded_marlin_layers_say_so() -> None:
    spec = find_spec("gptqmodel")
    assert spec is not None and spec.origin is not None
    with holds(compat, "gptqmodel", "is_padded_by_marlin"):
        code = Path(spec.origin).with_name("nn_modules") / "qlinear" / "marlin.py"
        assert "self._marlin_tile_padding" in code.read_text()
