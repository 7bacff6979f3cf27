"""Quantized layers are timed beside unquantized ones of the same shapes."""

import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from codejoule.config.schema import Method, QuantConfig
from codejoule.experiment.model_stage import _tell_slow_kernels
from codejoule.models.kernel_time import KernelTimes, kernel_times
from codejoule.models.placement import Placement, random_model
from codejoule.models.quantization import quantizer_of

ARCHITECTURE = {
    "model_type": "qwen2", "vocab_size": 320, "hidden_size": 128, "intermediate_size": 256,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "max_position_embeddings": 256, "max_window_layers": 2,
}  # fmt: skip


def test_the_layers_of_one_decoder_layer_are_timed_and_no_others() -> None:
    import torch

    place = Placement(device="cpu")
    plain = random_model(ARCHITECTURE, seed=0, dtype=torch.float32, place=place)
    assert kernel_times(plain, rows=4) is None
    # The kernel `torch` is compiled at its first call, which takes 15 s.
    quant = QuantConfig(
        name="gptq4", method=Method["gptq"], bits=4, group_size=32, kernel="torch_fused"
    )
    packed, _ = quantizer_of("gptq").random(
        ARCHITECTURE, quant, seed=0, dtype=torch.float32, place=place
    )
    calls: list[str] = []
    for name, module in packed.named_modules():
        if name.endswith("_proj"):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    times = kernel_times(packed, rows=4)
    assert times is not None and times.quantized_s > 0 and times.plain_s > 0
    assert {name.split(".")[2] for name in calls} == {"0"} and len(set(calls)) == 7


@pytest.mark.parametrize(("quantized_s", "told"), [(3e-4, True), (1.05e-4, False)])
def test_slower_kernels_are_told_with_the_figure(
    caplog: pytest.LogCaptureFixture, quantized_s: float, told: bool
) -> None:
    named: Any = SimpleNamespace(name="gptq4", size=32)
    plan: Any = SimpleNamespace(experiment=SimpleNamespace(quant=named, batch=named))
    with caplog.at_level(logging.WARNING):
        _tell_slow_kernels(
            plan, replace(KernelTimes(quantized_s=1, plain_s=1e-4), quantized_s=quantized_s)
        )
    assert ("3.0 times as long" in caplog.text) is told
    assert ("300 against 100 us" in caplog.text) is told
