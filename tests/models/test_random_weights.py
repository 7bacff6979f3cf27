import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codejoule.config import ConfigError
from codejoule.config.schema import Dtype, Method, ModelConfig, QuantConfig, Weights
from codejoule.models import load_model, locate_checkpoint
from codejoule.models.tokenizer import byte_tokenizer


def random_config(architecture: dict[str, Any], **changes: Any) -> ModelConfig:
    fields = {
        "name": "tiny",
        "weights": Weights.random,
        "architecture": architecture,
        "cpu_threads": 1,
    }
    return ModelConfig(**(fields | changes))


def load(model: ModelConfig, quant: QuantConfig | None = None) -> Any:
    quant = quant or QuantConfig(name="none")
    found = locate_checkpoint(model, quant, cache_dir=Path("unused"))
    assert found.path is None
    return load_model(found, model, quant, device="cpu")


def test_the_same_seed_gives_the_same_weights(tiny_architecture: dict[str, Any]) -> None:
    import torch

    one, two, other = (
        load(random_config(tiny_architecture, random_seed=seed)) for seed in (0, 0, 1)
    )
    weights = [loaded.model.lm_head.weight for loaded in (one, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert one.facts.checksum == two.facts.checksum != other.facts.checksum
    assert one.facts.checksum.startswith("random:0:")


def test_making_weights_leaves_torchs_random_state_alone(
    tiny_architecture: dict[str, Any],
) -> None:
    import torch

    torch.manual_seed(7)
    before = torch.get_rng_state()
    load(random_config(tiny_architecture))
    assert torch.equal(torch.get_rng_state(), before)


def test_facts_say_that_the_weights_are_random(tiny_architecture: dict[str, Any]) -> None:
    loaded = load(random_config(tiny_architecture, dtype=Dtype.bfloat16))
    facts = loaded.facts
    assert (facts.weights, facts.source, facts.dtype) == ("random", "random", "bfloat16")
    assert facts.n_parameters == sum(p.numel() for p in loaded.model.parameters())
    assert facts.memory_bytes >= 2 * facts.n_parameters
    assert facts.context_tokens == 256
    assert not loaded.model.training


PACKED = [
    ("qwen2", "gptq4", "torch_aten"),
    ("qwen2", "gptq8", "torch_int8"),
    ("qwen2", "awq", "torch_aten"),
    ("llama", "gptq4", "torch_aten"),
    ("llama", "awq", "torch_aten"),
    ("deepseek", "gptq4", "torch_aten"),
    ("deepseek", "gptq8", "torch_int8"),
]


@pytest.mark.parametrize(("architecture", "name", "kernel"), PACKED)
def test_packed_random_weights_are_proven_finite_and_as_small_as_they_say(
    architecture: str,
    name: str,
    kernel: str,
    architectures: dict[str, dict[str, Any]],
    quants: dict[str, QuantConfig],
) -> None:
    import torch

    whole = load(random_config(architectures[architecture]))
    packed = load(random_config(architectures[architecture]), quants[name])
    facts = packed.facts
    assert facts.n_parameters == whole.facts.n_parameters
    assert facts.linear_unquantized == 1
    assert (facts.kernel, facts.bits) == (kernel, quants[name].bits)
    assert facts.group_size == (32 if architecture == "deepseek" else 128)
    assert {entry["stored_bits"] for entry in facts.layers if entry["bits"]} == {facts.bits}
    assert facts.memory_bytes < 0.6 * whole.facts.memory_bytes
    with torch.inference_mode():
        logits = packed.model(torch.arange(40).reshape(2, 20)).logits.float()
    assert torch.isfinite(logits).all()
    assert 0.02 < logits.std() < 2


def test_packed_random_weights_have_the_spread_of_an_untrained_model(
    tiny_architecture: dict[str, Any], quants: dict[str, QuantConfig]
) -> None:
    import torch

    for name, kernel in (("gptq4", "torch_fused"), ("awq", "torch")):
        quant = dataclasses.replace(quants[name], kernel=kernel)
        layer = load(random_config(tiny_architecture), quant).model.model.layers[0].mlp.up_proj
        with torch.inference_mode():
            weights = layer(torch.eye(layer.in_features))
        assert abs(weights.mean().item()) < 0.0005
        assert 0.018 < weights.std().item() < 0.023


def test_the_same_seed_gives_the_same_packed_weights(
    tiny_architecture: dict[str, Any], quants: dict[str, QuantConfig]
) -> None:
    import torch

    ids = torch.arange(20)[None]
    with torch.inference_mode():
        one, two, other = (
            load(random_config(tiny_architecture, random_seed=seed), quants["gptq4"])
            .model(ids)
            .logits
            for seed in (0, 0, 1)
        )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_packed_random_weights_and_a_checkpoint_load_into_the_same_layers(
    tiny_architecture: dict[str, Any],
    quantized: Callable[..., Path],
    quants: dict[str, QuantConfig],
) -> None:
    made = load(random_config(tiny_architecture), quants["gptq4"]).facts
    folder = quantized("gptq4")
    config = ModelConfig(name="tiny", weights=Weights.local, path=str(folder), cpu_threads=1)
    found = locate_checkpoint(config, quants["gptq4"], cache_dir=Path("unused"))
    read = load_model(found, config, quants["gptq4"], device="cpu").facts
    assert made.layers == read.layers
    assert made.memory_bytes == read.memory_bytes
    assert made.quantization == read.quantization == "gptq-4bit-g128"


def test_awq_of_a_random_mixture_of_experts_is_refused(
    architectures: dict[str, dict[str, Any]], quants: dict[str, QuantConfig]
) -> None:
    with pytest.raises(ConfigError, match="awq cannot quantize its layers"):
        load(random_config(architectures["deepseek"]), quants["awq"])


def test_deepseeks_layers_get_a_group_size_that_divides_them_all() -> None:
    architecture = {"model_type": "deepseek_v2", "hidden_size": 2048, "intermediate_size": 10944}
    quant = QuantConfig(name="gptq4", method=Method.gptq, bits=4)
    found = locate_checkpoint(random_config(architecture), quant, cache_dir=Path("unused"))
    assert found.quantization == "gptq-4bit-g64"


def test_a_vocabulary_too_small_for_bytes_is_refused(tiny_architecture: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"vocab_size=100: .* byte tokenizer of 259 tokens"):
        load(random_config(tiny_architecture | {"vocab_size": 100}))


@given(text=st.text(max_size=40))
def test_every_text_survives_the_byte_tokenizer(text: str) -> None:
    tokenizer = byte_tokenizer(259)
    tokens = tokenizer(text)["input_ids"]
    assert len(tokens) == len(text.encode())
    assert tokenizer.decode(tokens) == text


def test_the_byte_tokenizer_pads_left_and_knows_chat() -> None:
    tokenizer = byte_tokenizer(300)
    assert tokenizer.padding_side == "left"
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 256
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert max(tokenizer(text)["input_ids"]) < 259
