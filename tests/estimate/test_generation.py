"""Work of a pass against PyTorch's own count; time, power and energy of a generation."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from codejoule.domain import Architecture, Quantization, Workload, linear_layers
from codejoule.estimate import (
    ENGINE_SPEEDS,
    POWER,
    Card,
    PowerModel,
    count_parameters,
    decode_bound,
    decode_work,
    estimate_generation,
    kv_cache_bytes_per_token,
    prefill_work,
)

from .conftest import TINY, built, fields_of

NONE = Quantization()
GPTQ4 = Quantization(method="gptq", bits=4, group_size=128)
H200 = Card(
    name="h200", memory_bytes=150754820096, bandwidth_bytes_per_s=4.8e12,
    peak_float16_flop_per_s=989.5e12, peak_bfloat16_flop_per_s=989.5e12, power_limit_w=700,
    idle_power_w=77,
)  # fmt: skip
LENGTHS: dict[str, Any] = {"prompt_tokens": 200, "new_tokens": 128, "dtype": "bfloat16"}


def work_of(
    architecture: Architecture, quantization: Quantization = NONE, **change: Any
) -> Workload:
    fields = {"batch": 1, **LENGTHS} | change
    return Workload(architecture=architecture, quantization=quantization, **fields)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_operations_of_prefill_are_those_that_pytorch_counts(family: str) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    batch, prompt = 2, 24
    architecture = Architecture.from_config(TINY[family])
    model = built(TINY[family] | {"attn_implementation": "eager"}, "meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros((batch, prompt), dtype=torch.long, device="meta"), logits_to_keep=1)
    ours = prefill_work(work_of(architecture, batch=batch, prompt_tokens=prompt, dtype="float32"))
    # Eager attention multiplies the masked half of the square, too.
    masked = (
        2
        * architecture.layers
        * batch
        * prompt**2
        * architecture.attention.heads
        * architecture.attention.head_dim
    )
    # Norms' weights and biases are no matrices, rotary angles are: s products per half head.
    biases = sum(x.number * x.out_features for x in linear_layers(architecture) if x.bias)
    vectors = 2 * batch * prompt * (count_parameters(architecture).norms + biases)
    angles = counter.get_total_flops() - (ours.flop + masked - vectors)
    assert 0 <= angles <= 2 * batch * prompt * architecture.attention.head_dim


def test_a_decode_step_reads_what_the_bound_says(
    architecture: Callable[[str], Architecture],
) -> None:
    for name in ("qwen_7b", "deepseek_coder_16b"):
        asked = work_of(architecture(name), batch=8)
        bound = decode_bound(asked, card=H200)
        assert asked.mean_cached_tokens == 264
        work = decode_work(asked)
        assert bound is not None
        assert bound.weights_read_bytes == round(work.weights_bytes)
        assert bound.kv_cache_read_bytes == round(work.cache_bytes)
        assert bound.experts_read == work.experts


def test_grouped_heads_that_are_written_out_move_each_key_once_more_per_head() -> None:
    qwen = Architecture.from_config(fields_of("qwen_7b"))
    asked = work_of(qwen, batch=4, prompt_tokens=99, new_tokens=2, dtype="float16")
    plain = decode_work(asked)
    expanded = decode_work(asked, expands_heads=True)
    assert plain.cache_bytes == 400 * kv_cache_bytes_per_token(qwen, dtype="float16")
    assert expanded.cache_bytes == plain.cache_bytes * (1 + 2 * 28 / 4)


def test_a_quantized_model_moves_its_packed_bytes_and_computes_as_much() -> None:
    qwen = Architecture.from_config(fields_of("qwen_7b"))
    shape: dict[str, Any] = {"prompt_tokens": 99, "new_tokens": 2, "dtype": "float16"}
    plain, packed = (decode_work(work_of(qwen, quant, **shape)) for quant in (NONE, GPTQ4))
    assert packed.flop == plain.flop
    # The head stays in 16 bits: less than a third of the bytes, more than a quarter.
    assert 0.25 < packed.weights_bytes / plain.weights_bytes < 0.33


def test_prefill_of_experts_reads_nearly_all_of_them_and_multiplies_by_few() -> None:
    deepseek = Architecture.from_config(fields_of("deepseek_coder_16b"))
    work = prefill_work(work_of(deepseek))
    assert work.experts == pytest.approx(64, abs=1e-3)
    assert work.flop < 2 * 200 * count_parameters(deepseek).total / 5


def estimated(name: str = "qwen_7b", quant: Quantization = NONE, **change: Any) -> Any:
    inputs: dict[str, Any] = {"card": H200, "engine": ENGINE_SPEEDS["graph"], "power": POWER}
    inputs |= {key: change.pop(key) for key in inputs.keys() & change.keys()}
    work = work_of(Architecture.from_config(fields_of(name)), quant, **change)
    return estimate_generation(work, **inputs)


def test_time_is_prefill_and_one_step_less_than_tokens() -> None:
    found = estimated()
    assert found.latency_s == pytest.approx(found.ttft_s + 127 * found.tpot_s)
    assert found.energy_j == pytest.approx(found.mean_power_w * found.latency_s)
    one = estimated(new_tokens=1)
    assert one.tpot_s is None
    assert one.latency_s == one.ttft_s
    assert one.decode_j == 0


@pytest.mark.parametrize("engine", ENGINE_SPEEDS)
def test_no_engine_is_faster_than_the_bound(engine: str) -> None:
    for name, quant, batch in (("qwen_7b", NONE, 1), ("qwen_7b", GPTQ4, 64), ("llama_8b", NONE, 8)):
        found = estimated(name, quant, engine=ENGINE_SPEEDS[engine], batch=batch)
        architecture = Architecture.from_config(fields_of(name))
        bound = decode_bound(work_of(architecture, quant, batch=batch), card=H200)
        assert bound is not None
        assert found.tpot_s > bound.tpot_s


def test_power_lies_between_idle_and_the_limit() -> None:
    for engine in ENGINE_SPEEDS.values():
        for batch in (1, 64):
            found = estimated(engine=engine, batch=batch, prompt_tokens=2000)
            assert 77 < found.mean_power_w <= 700


def test_what_a_card_s_file_does_not_say_is_absent_or_assumed_and_never_zero() -> None:
    assert estimated(card=replace(H200, peak_bfloat16_flop_per_s=None)) is None
    unmetered = estimated(card=replace(H200, power_limit_w=None))
    assert unmetered.latency_s > 0
    assert unmetered.energy_j is None
    assert unmetered.mean_power_w is None
    idle = PowerModel(active_share=0, bandwidth_share=0, compute_share=0, four_bit_share=0)
    assert estimated(power=idle).mean_power_w == pytest.approx(77)
    unknown = replace(H200, idle_power_w=None)
    assert estimated(power=idle, card=unknown).mean_power_w == pytest.approx(77)
