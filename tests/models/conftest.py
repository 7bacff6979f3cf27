from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codejoule.config.schema import Method, ModelConfig, QuantConfig, Variant, Weights

TINY = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": 320,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "max_window_layers": 2,
    "eos_token_id": 256,
    "torch_dtype": "float32",
}
TINY_LLAMA = {key: value for key, value in TINY.items() if key != "max_window_layers"} | {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_key_value_heads": 2,
}
# Latent attention, one dense layer, one of experts; every layer's inputs divide by 32, not by 64.
TINY_DEEPSEEK = {
    "architectures": ["DeepseekV2ForCausalLM"],
    "model_type": "deepseek_v2",
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "moe_intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "kv_lora_rank": 32,
    "q_lora_rank": None,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 32,
    "v_head_dim": 32,
    "topk_method": "greedy",
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": False,
    "routed_scaling_factor": 1.0,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "bos_token_id": 256,
    "eos_token_id": 256,
    "torch_dtype": "float32",
}
ARCHITECTURES = {"qwen2": TINY, "llama": TINY_LLAMA, "deepseek": TINY_DEEPSEEK}
TEXTS = [f"def f{i}(x):\n    return x + {i} * y\n" * 4 for i in range(16)]
QUANTS = {
    "none": QuantConfig(name="none"),
    "gptq8": QuantConfig(name="gptq8", method=Method.gptq, bits=8),
    "gptq4": QuantConfig(name="gptq4", method=Method.gptq, bits=4),
    "awq": QuantConfig(name="awq", method=Method.awq, bits=4, sym=False),
    "bnb_nf4": QuantConfig(name="bnb_nf4", method=Method.bnb, bits=4, group_size=64),
    "bnb_int8": QuantConfig(name="bnb_int8", method=Method.bnb, bits=8, group_size=-1),
    "torchao_int8": QuantConfig(name="torchao_int8", method=Method.torchao, bits=8, group_size=-1),
    "fp8": QuantConfig(name="fp8", method=Method["fp8"], bits=8, group_size=-1),
}


def local_model(path: Path, **changes: Any) -> ModelConfig:
    fields: dict[str, Any] = {
        "name": "tiny",
        "weights": Weights.local,
        "path": str(path),
        "variant": Variant.base,
        "cpu_threads": 1,
    }
    return ModelConfig(**(fields | changes))


@pytest.fixture(scope="session")
def tiny_architecture() -> dict[str, Any]:
    return dict(TINY)


@pytest.fixture(scope="session")
def architectures() -> dict[str, dict[str, Any]]:
    return ARCHITECTURES


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A real checkpoint of each tiny architecture, as save_pretrained writes it."""
    import torch

    from codejoule.models.placement import Placement, random_model
    from codejoule.models.tokenizer import byte_tokenizer

    root = tmp_path_factory.mktemp("tiny")

    def folder(architecture: str) -> Path:
        made = root / architecture / "base"
        if not made.exists():
            fields = ARCHITECTURES[architecture]
            random_model(
                fields, seed=0, dtype=torch.float32, place=Placement(device="cpu")
            ).save_pretrained(made)
            byte_tokenizer(320).save_pretrained(made)
        return made

    return folder


@pytest.fixture(scope="session")
def tiny_folder(base_folder: Callable[[str], Path]) -> Path:
    """The tiny Qwen2."""
    return base_folder("qwen2")


@pytest.fixture(scope="session")
def quantized(
    base_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Quantizes a tiny model here, each way once."""
    from codejoule.models import locate_checkpoint, quantize_checkpoint

    cache = tmp_path_factory.mktemp("quantized")

    def folder(name: str, architecture: str = "qwen2") -> Path:
        base = base_folder(architecture)
        found = locate_checkpoint(local_model(base), QUANTS[name], cache_dir=cache)
        return quantize_checkpoint(found, QUANTS[name], calibration_texts=TEXTS, device="cpu")

    return folder


@pytest.fixture
def make_model() -> Callable[..., ModelConfig]:
    return local_model


@pytest.fixture(scope="session")
def quants() -> dict[str, QuantConfig]:
    return QUANTS


@pytest.fixture(scope="session")
def calibration_texts() -> list[str]:
    return TEXTS
