"""The proof that kernels compute with the weights that the checkpoint stores."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from codejoule.config import UserError
from codejoule.config.schema import QuantConfig
from codejoule.models.facts import LinearLayer
from codejoule.models.quantization import quantizer_of
from codejoule.models.quantization.base import Kernel, StoredLayer, Tensors

if TYPE_CHECKING:
    import torch

_GROUPS = 16
"""Groups of a layer whose zero points are looked at, each by an input of its own."""
_SIGNS = 4
"""Inputs of random signs."""
_LARGEST = 8192.0
"""What an output's summands come to: far inside of float16, and large beside biases, whose
rounding must not hide a step."""
_UNSCALED = 4.0
"""Inputs where no steps are stored: below what LLM.int8() sets apart as outliers."""
_ROUNDING = 12**-0.5
"""Standard deviation of what rounding adds, in steps."""


def prove_values(
    model: "torch.nn.Module",
    layers: Sequence[LinearLayer],
    stored: Mapping[str, Tensors],
    quant: QuantConfig,
    layout: str | None,
    *,
    dtype: "torch.dtype",
    source: str,
) -> list[dict[str, Any]]:
    """Compare what `layers` compute with what their `stored` tensors say, read by our own rule.

    Each layer gets inputs of ones in one group of its inputs and zeros elsewhere, and inputs of
    random signs. With a zero point off by one, an output for the former is off by the sum of the
    group's steps. Half of that is the tolerance, and rounding stays far below it
    (docs/reference/models.md).
    Returns, for each layer, what was looked at and how close it was. Raises `UserError` that
    names the first layer which computes something else.
    """
    import torch

    quantizer = quantizer_of(quant.method.name)
    found = []
    for layer in layers:
        module = model.get_submodule(layer.name)
        kernel = next(kernel for kernel in quantizer.kernels if kernel.kind == layer.kernel)
        device = torch.device(layer.device.split(",")[0])
        kept = quantizer.stored_layer(stored[layer.name], quant, layout, device=device)
        quantizer.check_stored(kept, quant, source, layer.name)
        found.append(_compare(layer, module, kept, kernel, dtype, source))
    return found


def _compare(
    layer: LinearLayer,
    module: Any,
    kept: StoredLayer,
    kernel: Kernel,
    dtype: "torch.dtype",
    source: str,
) -> dict[str, Any]:
    import torch

    weight = kept.weight.double()
    inputs, groups = _inputs(kept)
    # gptqmodel's fallback would be compiled for these inputs alone, for most of a minute.
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        computed = module(inputs.to(dtype))[:, kept.outputs].double()
    meant = inputs @ weight
    error = computed - meant - (0.0 if kept.bias is None else kept.bias.double())
    again = weight.abs().amax(0) / 127 if kernel.rounds_to_int8 else weight.new_zeros(1)
    rounded = _ROUNDING * again * inputs.norm(dim=1, keepdim=True)
    of_signs, spread = _rms(error[-_SIGNS:]), _rms(meant[-_SIGNS:])
    relative = of_signs / spread if spread else of_signs
    step = weight.new_zeros(0, 1)
    if kept.groups is not None and kept.steps is not None:
        # What zero points higher by one take from each output.
        step = inputs[:-_SIGNS].abs() @ kept.steps[kept.groups].double()
    noise = 6 * rounded[:-_SIGNS]
    wrong = []
    # Written so that what is not a number is no match.
    if not of_signs <= kernel.tolerance * spread + 2 * _rms(rounded[-_SIGNS:]):
        wrong.append(f"its outputs are off by {relative:.0%}")
    if not (error[:-_SIGNS].abs() <= step / 2 + noise).all():
        most = float((error[:-_SIGNS].abs() / step).max())
        wrong.append(f"it is as if zero points were off by up to {most:.1f}")
    if wrong:
        raise UserError(
            f"{source}: {layer.kernel} does not compute with the weights of {layer.name} as the "
            f"checkpoint stores them: {', and '.join(wrong)}; correct its quantization_config, or "
            "choose another quant.kernel"
        )
    return {
        "name": layer.name,
        "kernel": layer.kernel,
        "outputs": len(kept.outputs),
        "zero_points": int((step / 2 > 2 * noise)[:groups].sum()),
        "relative_error": relative,
    }


def _inputs(kept: StoredLayer) -> tuple["torch.Tensor", int]:
    """Inputs in double precision, and how many of the first of them are one group each."""
    import torch

    weight = kept.weight
    size, device = weight.shape[0], weight.device
    drawn = torch.randint(0, 2, (_SIGNS, size), generator=torch.Generator().manual_seed(0))
    signs = 2.0 * drawn.to(device) - 1
    if kept.groups is None:
        return _UNSCALED * signs.double(), 0
    last = int(kept.groups.max())
    chosen = torch.linspace(0, last, min(last + 1, _GROUPS), device=device).round().long()
    one_group = (kept.groups == chosen[:, None]).float()
    rows = torch.cat([one_group, torch.ones(1, size, device=device), signs])
    sums = (rows.abs() @ weight.abs()).amax(1).clamp(min=2.0)
    # Powers of two, which every dtype holds exactly.
    scale = (_LARGEST / sums).log2().floor().exp2()
    return (rows * scale[:, None]).double(), len(chosen)


def _rms(values: "torch.Tensor") -> float:
    return float(values.square().mean().sqrt())
