"""Cache and activations against real models, and how memory grows."""

import gc
from collections.abc import Callable
from typing import Any

import pytest

from codejoule.domain import Architecture, Quantization, Workload
from codejoule.estimate import (
    kv_cache_bytes,
    kv_cache_bytes_per_token,
    largest_batch,
    memory_needed,
)

from .conftest import MODELS, TINY, built, fields_of

NONE = Quantization()
BATCH, PROMPT, NEW = 6, 40, 5


def work(architecture: Architecture, quantization: Quantization = NONE, **lengths: Any) -> Workload:
    return Workload(architecture=architecture, quantization=quantization, **lengths)


@pytest.mark.parametrize("family", TINY)
def test_the_cache_is_what_transformers_keeps_at_the_end_of_a_generation(family: str) -> None:
    cache = generated(built(TINY[family]))
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    ours = memory_needed(
        work(
            Architecture.from_config(TINY[family]),
            batch=BATCH,
            prompt_tokens=PROMPT,
            new_tokens=NEW,
            dtype="float32",
        )
    )
    assert ours.kv_cache_bytes == kept


@pytest.mark.parametrize("model", MODELS)
def test_the_cache_of_every_model_is_what_transformers_keeps(model: str) -> None:
    import torch

    tokens, fields = 300, fields_of(model)
    pairs = fields["model_type"] == "gpt_oss"
    net = built(fields | {"num_hidden_layers": 2, "layer_types": None}, "meta").to(torch.bfloat16)
    for layer in net.model.layers:
        # Which experts a token takes cannot be told without numbers.
        layer.mlp.forward = lambda hidden: (hidden, None) if pairs else hidden
    ids = torch.zeros((1, tokens), dtype=torch.long, device="meta")
    with torch.no_grad():
        cache = net(ids, use_cache=True, logits_to_keep=1).past_key_values
    kept = [layer.keys.nbytes + layer.values.nbytes for layer in cache.layers]
    whole = Architecture.from_config(fields)
    assert whole.layers % 2 == 0 or len(set(kept)) == 1
    ours = kv_cache_bytes(whole, tokens=tokens, dtype="bfloat16")
    assert ours == sum(kept) * whole.layers / 2


def test_a_sliding_window_stops_growing_and_the_other_layers_do_not() -> None:
    oss = Architecture.from_config(fields_of("gpt_oss_20b"))
    assert oss.window is not None and (oss.window.tokens, oss.window.layers) == (128, 12)
    width = 2 * 8 * 64 * 2
    for tokens, seen in ((1, 1), (127, 127), (128, 127), (5000, 127)):
        found = kv_cache_bytes(oss, tokens=tokens, dtype="bfloat16")
        assert found == 12 * width * (tokens + seen)
    assert kv_cache_bytes_per_token(oss, dtype="bfloat16") == 24 * width


def test_latent_attention_caches_latents_and_one_rotary_key() -> None:
    deepseek = Architecture.from_config(fields_of("deepseek_coder_16b"))
    per_token = kv_cache_bytes_per_token(deepseek, dtype="bfloat16")
    assert per_token == 27 * (512 + 64) * 2
    qwen = Architecture.from_config(fields_of("qwen_7b"))
    assert kv_cache_bytes_per_token(qwen, dtype="bfloat16") == 2 * 28 * 4 * 128 * 2


@pytest.mark.parametrize("family", TINY)
def test_the_estimate_of_activations_is_near_the_peak_of_live_tensors(family: str) -> None:
    model = built(TINY[family])
    tracked = peak_of_live_tensors(model)
    # Prefill alone: a generation of one token.
    ours = memory_needed(
        work(
            Architecture.from_config(TINY[family]),
            batch=BATCH,
            prompt_tokens=PROMPT,
            new_tokens=1,
            dtype="float32",
        )
    ).activations_bytes
    assert 0.9 < ours / tracked < 1.3


def test_experts_that_are_copied_for_decoding_are_counted() -> None:
    deepseek = Architecture.from_config(fields_of("deepseek_coder_16b"))
    lengths: dict[str, Any] = {"batch": 64, "prompt_tokens": 100, "new_tokens": 100}
    plain = memory_needed(work(deepseek, **lengths, dtype="float16")).activations_bytes
    assert plain == 64 * 6 * 3 * 2048 * 1408 * 2
    packed = Quantization(method="gptq", bits=4, group_size=64)
    smaller = memory_needed(work(deepseek, packed, **lengths, dtype="float16"))
    assert smaller.activations_bytes < plain / 2


@pytest.mark.parametrize("model", ["qwen_7b", "llama_8b", "deepseek_coder_16b"])
def test_the_largest_batch_fits_and_one_more_does_not(model: str) -> None:
    architecture = Architecture.from_config(fields_of(model))
    rest: dict[str, Any] = {"prompt_tokens": 660, "new_tokens": 1280, "dtype": "float16"}
    card = 48 * 2**30
    batch = largest_batch(work(architecture, batch=1, **rest), memory_bytes=card)
    assert batch > 1
    assert memory_needed(work(architecture, batch=batch, **rest)).total_bytes <= card
    assert memory_needed(work(architecture, batch=batch + 1, **rest)).total_bytes > card
    assert largest_batch(work(architecture, batch=1, **rest), memory_bytes=2**30) == 0


def test_lengths_and_dtypes_that_make_no_sense_are_refused(
    architecture: Callable[[str], Architecture],
) -> None:
    rest: dict[str, Any] = {"batch": 1, "prompt_tokens": 1, "new_tokens": 1, "dtype": "float16"}
    for change in ({"batch": 0}, {"prompt_tokens": 0}, {"new_tokens": 0}, {"dtype": "fp16"}):
        with pytest.raises(ValueError, match=next(iter(change))):
            memory_needed(work(architecture("qwen_7b"), **(rest | change)))


def generated(model: Any) -> Any:
    import torch

    prompt = torch.randint(5, 300, (BATCH, PROMPT))
    output = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=NEW,
        min_new_tokens=NEW,
        do_sample=False,
        pad_token_id=0,
        return_dict_in_generate=True,
    )
    return output.past_key_values


def peak_of_live_tensors(model: Any) -> int:
    """Most bytes of tensors alive at once during prefill, beyond weights and the cache.

    Every tensor that an operator returns is watched until it is freed.
    """
    import weakref

    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Watch(TorchDispatchMode):
        live = peak = 0

        def __init__(self) -> None:
            super().__init__()
            # Views of weights are no new memory.
            weights = (*model.parameters(), *model.buffers())
            self.seen = {tensor.untyped_storage()._cdata for tensor in weights}

        def freed(self, key: int, size: int) -> None:
            self.seen.discard(key)
            self.live -= size

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = function(*args, **(kwargs or {}))
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor):
                    storage = leaf.untyped_storage()
                    key = storage._cdata
                    if key not in self.seen and storage.nbytes():
                        self.seen.add(key)
                        self.live += storage.nbytes()
                        weakref.finalize(storage, self.freed, key, storage.nbytes())
            self.peak = max(self.peak, self.live)
            return result

    prompt = torch.randint(5, 300, (BATCH, PROMPT))
    mask = torch.ones_like(prompt)
    mask[0, :7] = 0  # padded on the left, as in a batch
    gc.collect()
    with torch.no_grad(), Watch() as watch:
        output = model(prompt, attention_mask=mask, use_cache=True, logits_to_keep=1)
    cache = output.past_key_values
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    return int(watch.peak - kept)
