"""What is known of each way to store a model's linear layers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from codejoule.domain.architecture import LinearLayers

_NF4_BLOCK = 64
"""Weights that share one absmax in bitsandbytes' 4-bit layers (its default)."""
_NF4_TABLE_BYTES = 16 * 4
"""The 16 values of NF4 in float32, which each layer keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """Method, bits and group size; what the bytes of a quantized layer depend on."""

    method: str = "none"
    """One of `METHODS`."""
    bits: int | None = None
    """Bits per weight; None for ``none``."""
    group_size: int | None = None
    """Weights along the input that share one scale, -1 for the whole input. Only methods that
    pack weights use it, and they need it."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method={self.method}: choose one of {', '.join(METHODS)}")
        allowed = self.facts.bits or (None,)
        if self.bits not in allowed:
            choices = " or ".join(map(str, allowed))
            raise ValueError(f"bits={self.bits}: {self.method} takes {choices}")
        size = self.group_size
        if self.packed and (size is None or (size != -1 and size < 1)):
            raise ValueError(
                f"group_size={size}: {self.method} needs one of at least 1, or -1 for whole rows"
            )

    @property
    def facts(self) -> "QuantizationMethod":
        """What is known of the method."""
        return METHODS[self.method]

    @property
    def packed(self) -> bool:
        """Whether weights are packed in groups."""
        return self.facts.packed


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationMethod:
    """A method's facts; what it does is in the module of its name in `codejoule.models`."""

    bits: tuple[int, ...] = ()
    """Bits that it can store a weight in; empty for ``none``."""
    packed: bool = False
    """Whether weights of a group share a scale and are packed into 32-bit words, those of routed
    experts too; such weights are in a checkpoint of their own. Others are made from unquantized
    weights while those are loaded, which leaves routed experts as they are."""
    group_sizes: Mapping[int, int] | None = None
    """The group size that goes with so many bits; None where it can be chosen."""
    cuda_dtypes: tuple[str, ...] = ()
    """Dtypes that its kernels on CUDA take; empty for any."""
    gpu_dtype: str | None = None
    """The dtype of everything unquantized on a GPU where none is asked for; None for that of the
    weights."""
    capability: tuple[int, int] | None = None
    """Compute capability of the oldest GPUs that support it; None for any, and for CPUs."""
    int8_bits: tuple[int, ...] = ()
    """The number of bits with which it multiplies in int8. With others it unpacks to the model's
    dtype."""
    layouts: tuple[str, ...] = ()
    """Layouts of a checkpoint's tensors that can be read, the usual one first."""
    libraries: tuple[str, ...] = ()
    """Distributions that do it, whose versions are part of what a run is."""
    layer_bytes: Callable[[LinearLayers, Quantization], tuple[int, int]] | None = None
    """Bytes of a layer's weights, and of what goes with them except its bias; None for ``none``."""
    bias_bytes: int | None = None
    """Bytes of each number of a quantized layer's bias; None for the model's dtype."""


def _packed(layer: LinearLayers, quantization: Quantization) -> tuple[int, int]:
    """``qweight``; ``scales`` in float16 and packed ``qzeros``."""
    inputs, outputs, bits = layer.in_features, layer.out_features, quantization.bits
    assert bits is not None and quantization.group_size is not None
    size = inputs if quantization.group_size == -1 else quantization.group_size
    if inputs % size:
        raise ValueError(
            f"group_size={size}: {layer.name} has {inputs} inputs, which do not divide by it"
        )
    if inputs * bits % 32 or outputs * bits % 32:
        raise ValueError(
            f"{layer.name} ({inputs} x {outputs}) with {bits} bits does not fill 32-bit words"
        )
    groups = inputs // size
    return layer.weights * bits // 8, 2 * groups * outputs + groups * outputs * bits // 8


def _packed_with_order(layer: LinearLayers, quantization: Quantization) -> tuple[int, int]:
    weights, steps = _packed(layer, quantization)
    return weights, steps + 4 * layer.in_features  # g_idx, an int32 per input


def _bitsandbytes(layer: LinearLayers, quantization: Quantization) -> tuple[int, int]:
    if quantization.bits == 8:
        return layer.weights, 4 * layer.out_features
    blocks = -(-layer.weights // _NF4_BLOCK)
    return -(-layer.weights // 2), 4 * blocks + _NF4_TABLE_BYTES


def _torchao(layer: LinearLayers, _: Quantization) -> tuple[int, int]:
    return layer.weights, (4 + 1) * layer.out_features


def _fp8(layer: LinearLayers, _: Quantization) -> tuple[int, int]:
    return layer.weights, 4 * layer.out_features


METHODS: Mapping[str, QuantizationMethod] = {
    "none": QuantizationMethod(),
    "gptq": QuantizationMethod(
        bits=(4, 8),
        packed=True,
        # gptqmodel 7.6: every CUDA kernel takes float16, none float32.
        cuda_dtypes=("float16", "bfloat16"),
        # What AWQ's CUDA kernels take; GPTQ's take it too, and the two stay comparable.
        gpu_dtype="float16",
        layouts=("gptq", "gptq_v2"),
        libraries=("gptqmodel",),
        layer_bytes=_packed_with_order,
        bias_bytes=2,
    ),
    "awq": QuantizationMethod(
        bits=(4,),
        packed=True,
        # As transformers 5 runs it.
        cuda_dtypes=("float16",),
        gpu_dtype="float16",
        layouts=("gemm",),
        libraries=("gptqmodel",),
        layer_bytes=_packed,
        bias_bytes=2,
    ),
    "bnb": QuantizationMethod(
        bits=(4, 8),
        group_sizes={4: _NF4_BLOCK, 8: -1},
        gpu_dtype="float16",
        int8_bits=(8,),
        libraries=("bitsandbytes",),
        layer_bytes=_bitsandbytes,
    ),
    "torchao": QuantizationMethod(
        bits=(8,),
        group_sizes={8: -1},
        gpu_dtype="float16",
        libraries=("torchao",),
        layer_bytes=_torchao,
    ),
    "fp8": QuantizationMethod(
        bits=(8,),
        group_sizes={8: -1},
        # The only one that torchao scales by rows; vLLM takes the others, too.
        gpu_dtype="bfloat16",
        # Ada. Older GPUs, and vLLM on a CPU, cannot multiply in fp8.
        capability=(8, 9),
        libraries=("torchao",),
        layer_bytes=_fp8,
    ),
}
"""Every method, by the name that the configuration has for it."""
