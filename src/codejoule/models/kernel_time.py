"""Whether quantized layers are slower than unquantized ones for as many rows as a run will have."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from codejoule.models.facts import inspect_layers
from codejoule.models.folder import DECODER

if TYPE_CHECKING:
    import torch

_FEW, _CAPTURED = 3, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTimes:
    """The linear layers of one decoder layer, once each."""

    quantized_s: float
    """Time with the kernels that were loaded [s]."""
    plain_s: float
    """Time of unquantized layers of the same shapes and dtype, by PyTorch [s]."""


def kernel_times(model: "torch.nn.Module", *, rows: int) -> KernelTimes | None:
    """Time the quantized layers of the model's first decoder layer with `rows` rows. On a GPU they
    run as CUDA graphs, so that the host counts for nothing. None for a model without such layers,
    and for kernels that cannot be captured."""
    import torch

    found = [layer for layer in inspect_layers(model) if layer.bits is not None]
    block = found[0].name.partition(DECODER)[2].partition(".")[0] if found else ""
    layers = [layer for layer in found if f"{DECODER}{block}." in layer.name]
    if not layers:
        return None
    quantized, plain = 0.0, 0.0
    with torch.inference_mode():
        for layer in layers:
            module = model.get_submodule(layer.name)
            device = next(iter((*module.parameters(), *module.buffers()))).device
            # No random numbers: the run's own are drawn later.
            x = torch.ones(rows, layer.in_features, dtype=model.dtype, device=device)
            weight = x.new_ones(layer.out_features, layer.in_features)
            try:
                quantized += _time(partial(module, x), device)
            except RuntimeError:  # it waits for the host, and cannot be captured
                return None
            plain += _time(partial(torch.nn.functional.linear, x, weight), device)
    return KernelTimes(quantized_s=quantized, plain_s=plain)


def _time(run: Callable[[], object], device: "torch.device") -> float:
    """Time of one run [s]: the fastest of a few, or on a GPU the mean of one graph's."""
    import torch

    for _ in range(_FEW):
        run()
    if device.type != "cuda":
        times = []
        for _ in range(_FEW):
            began = time.perf_counter()
            run()
            times.append(time.perf_counter() - began)
        return min(times)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize(device)
    with torch.cuda.graph(graph):
        for _ in range(_CAPTURED):
            run()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    graph.replay()
    begin.record()
    graph.replay()
    end.record()
    torch.cuda.synchronize(device)
    return float(begin.elapsed_time(end)) / 1000 / _CAPTURED
