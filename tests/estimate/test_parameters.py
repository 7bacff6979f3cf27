"""Our closed forms against the modules that transformers builds."""

from collections.abc import Callable
from typing import Any

import pytest

from codejoule.domain import Architecture, linear_layers
from codejoule.estimate import count_parameters

from .conftest import MODELS, TINY, built, fields_of


@pytest.mark.parametrize("model", MODELS)
def test_parameters_of_every_model_equal_transformers_to_the_unit(model: str) -> None:
    count = count_parameters(Architecture.from_config(fields_of(model)))
    parts = parts_of(built(fields_of(model), "meta"))
    assert count.total == sum(parts.values())
    assert {part: getattr(count, part) for part in parts} == parts


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("tied", [True, False])
def test_every_family_counts_biases_and_ties_as_transformers_does(family: str, tied: bool) -> None:
    fields = TINY[family] | {"tie_word_embeddings": tied}
    parts = parts_of(built(fields, "meta"))
    count = count_parameters(Architecture.from_config(fields))
    assert {part: getattr(count, part) for part in parts} == parts


def test_latent_queries_are_counted_as_transformers_does() -> None:
    fields = TINY["deepseek_v2"] | {"q_lora_rank": 24, "attention_bias": True, "mlp_bias": True}
    parts = parts_of(built(fields, "meta"))
    count = count_parameters(Architecture.from_config(fields))
    assert {part: getattr(count, part) for part in parts} == parts


@pytest.mark.parametrize("family", ["qwen2", "llama", "qwen3"])
def test_linear_layers_are_those_of_the_model(family: str) -> None:
    import torch

    model = built(TINY[family], "meta")
    found: dict[tuple[str, int, int], int] = {}
    for name, module in model.model.named_modules():
        if isinstance(module, torch.nn.Linear):
            key = (name.rpartition(".")[2], module.in_features, module.out_features)
            found[key] = found.get(key, 0) + 1
    ours = linear_layers(Architecture.from_config(TINY[family]))
    assert {(x.name, x.in_features, x.out_features): x.number for x in ours} == found


def test_a_dense_model_uses_all_but_an_untied_embedding_per_token(
    architecture: Callable[[str], Architecture],
) -> None:
    tied = count_parameters(architecture("qwen_0_5b"))
    assert tied.head == 0
    assert tied.active == tied.total
    untied = count_parameters(architecture("qwen_7b"))
    assert untied.active == untied.total - untied.embeddings


def test_deepseek_uses_the_2_4_billion_parameters_that_its_authors_state(
    architecture: Callable[[str], Architecture],
) -> None:
    # DeepSeek-AI (2024), arXiv:2405.04434: 15.7 B, 2.4 B active.
    count = count_parameters(architecture("deepseek_coder_16b"))
    assert round(count.total / 1e9, 1) == 15.7
    assert int(count.active / 1e8) == 24


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"model_type": "gpt2"}, "model_type=gpt2: its layers are not known to the estimator"),
        ({"hidden_size": None}, "hidden_size=None: the estimator needs a whole number"),
        ({"use_sliding_window": True}, "use_sliding_window=true: "),
        ({"layer_types": ["linear_attention", "full_attention"]}, "some of its layers have linear"),
        (
            {"text_config": {"layer_types": ["linear_attention"]}},
            "choose a model with attention in",
        ),
        ({"model_type": "qwen3_next", "linear_num_value_heads": 32}, "model_type=qwen3_next: some"),
        ({"model_type": "qwen3_moe", "mlp_only_layers": [0]}, "experts in every layer alone"),
        ({"model_type": "gpt_oss", "layer_types": ["chunked_attention"] * 3}, "layer_types="),
    ],
)
def test_what_is_not_known_is_refused_and_not_guessed(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Architecture.from_config(TINY["qwen2"] | change)


def parts_of(model: Any) -> dict[str, int]:
    """Parameters of a real model, by the parts of `ParameterCount`."""
    parts = dict.fromkeys(
        ("embeddings", "attention", "mlp", "shared_experts", "routed_experts", "router", "norms",
         "head"), 0
    )  # fmt: skip
    for name, parameter in model.named_parameters():
        parts[part_of(name)] += parameter.numel()
    return parts


def part_of(name: str) -> str:
    for mark, part in (
        ("embed_tokens", "embeddings"), ("lm_head", "head"), ("norm", "norms"),
        ("self_attn", "attention"), (".shared_experts.", "shared_experts"),
        (".experts.", "routed_experts"), (".mlp.gate.", "router"), (".mlp.router.", "router"),
        (".mlp.", "mlp"),
    ):  # fmt: skip
        if mark in name:
            return part
    raise AssertionError(name)
