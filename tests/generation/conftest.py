from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from codejoule.domain import Prompt

VOCABULARY = 320


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """For so small a model, threads that wait for one another take most of the time."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """One token per byte; the padding token is the end token, as with many models."""
    from codejoule.models.tokenizer import byte_tokenizer

    return byte_tokenizer(VOCABULARY)


def tiny_model(seed: int, **changes: Any) -> Any:
    import torch

    from codejoule.models.placement import Placement, random_model

    architecture = {
        "model_type": "qwen2",
        "vocab_size": VOCABULARY,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 256,
        "max_window_layers": 2,
        "tie_word_embeddings": False,
        # Weights this large make each token depend on all before it, not on the last alone.
        "initializer_range": 0.3,
    }
    return random_model(
        architecture | changes, seed=seed, dtype=torch.float32, place=Placement(device="cpu")
    ).eval()


FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "llama": {"model_type": "llama"},
    "deepseek_v2": {
        "model_type": "deepseek_v2",
        "num_key_value_heads": 2,
        "q_lora_rank": None,
        "kv_lora_rank": 32,
        "qk_rope_head_dim": 16,
        "qk_nope_head_dim": 32,
        "v_head_dim": 32,
        "n_routed_experts": 8,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
        "topk_method": "greedy",
    },
    "qwen3": {"model_type": "qwen3", "head_dim": 48},
    "qwen3_moe": {
        "model_type": "qwen3_moe",
        "head_dim": 32,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
    },
    # Shorter than the prompts, so that what a layer forgets is seen.
    "gpt_oss": {
        "model_type": "gpt_oss",
        "head_dim": 32,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "sliding_window": 16,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
}
"""What a tiny model of each family has that the tiny Qwen2 has not."""


@pytest.fixture(scope="session")
def family() -> Callable[[str], Any]:
    """Makes (once) a tiny model of one of `FAMILIES`, whose end token it may write."""
    from functools import cache

    return cache(lambda name: tiny_model(0, **FAMILIES[name]))


@pytest.fixture
def model() -> Any:
    """A tiny Qwen2 that writes nonsense and never ends by itself."""
    return tiny_model(0)


@pytest.fixture
def scribe(tokenizer: Any) -> Callable[[str], Any]:
    """Makes a real Qwen2 that, after the prompt ``>``, writes a text of distinct characters
    and then the end token."""
    import torch

    def make(text: str) -> Any:
        net = tiny_model(1, eos_token_id=tokenizer.eos_token_id, initializer_range=1.0)
        with torch.no_grad():
            for layer in net.model.layers:
                # Only the embedding is left: the next token depends on the last one alone.
                layer.self_attn.o_proj.weight.zero_()
                layer.mlp.down_proj.weight.zero_()
            chain = [*tokenizer(">" + text)["input_ids"], tokenizer.eos_token_id]
            assert len(set(chain)) == len(chain), "each character at most once"
            net.lm_head.weight.zero_()
            for now, then in pairwise(chain):
                net.lm_head.weight[then] = net.model.embed_tokens.weight[now]
        return net

    return make


@pytest.fixture
def prompts() -> Callable[..., list[Prompt]]:
    def make(*texts: str) -> list[Prompt]:
        return [
            Prompt(task_id=f"tiny/{i}", sample=0, text=text, add_special_tokens=True)
            for i, text in enumerate(texts)
        ]

    return make
