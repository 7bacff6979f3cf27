import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from codejoule.domain import Architecture

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "src" / "codejoule" / "models" / "starter"
MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))


def fields_of(model: str) -> dict[str, Any]:
    """config.json of a model of conf/model; the starter's lies with its weights."""
    loaded = yaml.safe_load((ROOT / "conf" / "model" / f"{model}.yaml").read_text())
    fields: dict[str, Any] = loaded.get("architecture", {})
    return fields or json.loads((STARTER / "none" / "config.json").read_text())


TINY: dict[str, dict[str, Any]] = {
    "qwen2": {
        "model_type": "qwen2", "vocab_size": 320, "hidden_size": 128, "intermediate_size": 512,
        "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 2,
        "max_position_embeddings": 512, "tie_word_embeddings": True,
    },
    "llama": {
        "model_type": "llama", "vocab_size": 320, "hidden_size": 128, "intermediate_size": 384,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4,
        "max_position_embeddings": 512, "tie_word_embeddings": False, "attention_bias": True,
        "mlp_bias": True,
    },
    # Values as wide as keys, which is what the CPU's fused attention can do.
    "deepseek_v2": {
        "model_type": "deepseek_v2", "vocab_size": 320, "hidden_size": 128,
        "intermediate_size": 512, "moe_intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 4, "n_routed_experts": 8,
        "n_shared_experts": 2, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
        "kv_lora_rank": 64, "q_lora_rank": None, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16,
        "v_head_dim": 48, "max_position_embeddings": 512, "tie_word_embeddings": False,
    },
    "qwen3": {
        "model_type": "qwen3", "vocab_size": 320, "hidden_size": 128, "intermediate_size": 512,
        "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32,
        "max_position_embeddings": 512, "tie_word_embeddings": True,
    },
    "qwen3_moe": {
        "model_type": "qwen3_moe", "vocab_size": 320, "hidden_size": 128,
        "intermediate_size": 100, "moe_intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32, "num_experts": 8,
        "num_experts_per_tok": 2, "max_position_embeddings": 512, "tie_word_embeddings": False,
    },
    # Every second layer forgets what lies more than 15 tokens back.
    "gpt_oss": {
        "model_type": "gpt_oss", "vocab_size": 320, "hidden_size": 128, "intermediate_size": 96,
        "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32,
        "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": 16,
        "max_position_embeddings": 512, "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
}  # fmt: skip


def built(fields: dict[str, Any], device: str = "cpu") -> Any:
    """The model that transformers makes of a config.json."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    rest = dict(fields)
    config = AutoConfig.for_model(rest.pop("model_type"), **rest)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture
def architecture() -> Callable[[str], Architecture]:
    return lambda model: Architecture.from_config(fields_of(model))
