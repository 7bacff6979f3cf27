"""What is known of each way to store a model's linear layers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from codejoule.domain.architecture import LinearLayers

TRANSFORMERS = "transformers"
"""Loads the model in this process, for every engine there."""
VLLM = "vllm"
"""Loads it in vLLM's process."""
LLAMA_CPP = "llama.cpp"
"""Loads it in the process of a server that somebody starts (``engine=server``)."""

_NF4_BLOCK = 64
"""Weights that share one absmax in bitsandbytes' 4-bit layers (its default)."""
_NF4_TABLE_BYTES = 16 * 4
"""The 16 values of NF4 in float32, which each layer keeps."""
_FP8_BLOCK = 128
"""Rows and columns that share a scale."""
_ADA, _AMPERE = "NVIDIA Ada, Hopper, Blackwell", "NVIDIA Ampere, Ada, Hopper, Blackwell"


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
    """Whether quantized weights are in a checkpoint of their own. Others are made from unquantized
    weights while those are loaded."""
    made_here: bool = True
    """Whether such a checkpoint can be made on this machine."""
    written_as: tuple[str, ...] = ()
    """Names of the method in a checkpoint's ``quantization_config``, beside its own."""
    loaders: tuple[str, ...] = (TRANSFORMERS,)
    """What computes with it as it is stored: `TRANSFORMERS`, `VLLM`, both, or `LLAMA_CPP`."""
    instead: str = ""
    """What such weights can be had as with other engines, if anything."""
    experts: tuple[str, ...] = ()
    """Those of them that quantize routed experts, too; the others refuse a mixture of experts."""
    packed_floats: bool = False
    """Whether bytes hold two small floats each, with exponents in bytes of their own."""
    experts_only: bool = False
    """Whether nothing but routed experts is quantized."""
    expert_biases: bool = False
    """Whether it takes experts that have biases."""
    group_sizes: Mapping[int, int] | None = None
    """The group size that goes with so many bits; None where it can be chosen."""
    cuda_dtypes: tuple[str, ...] = ()
    """Dtypes that its kernels on CUDA take; empty for any."""
    gpu_dtype: str | None = None
    """The dtype of everything unquantized on a GPU where none is asked for; None for that of the
    weights."""
    capability: tuple[int, int] | None = None
    """Compute capability of the oldest GPUs that support it; None for any, and for CPUs."""
    oldest_gpus: str = ""
    """Their name."""
    vllm_classes: tuple[str, ...] = ()
    """Parts of the names of vLLM's classes for it, one of which each layer's has."""
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


def _fp8_block(layer: LinearLayers, _: Quantization) -> tuple[int, int]:
    blocks = -(-layer.in_features // _FP8_BLOCK) * -(-layer.out_features // _FP8_BLOCK)
    return layer.weights, 4 * blocks


def _by_output(layer: LinearLayers, _: Quantization) -> tuple[int, int]:
    """A byte for each weight, and a 16-bit scale for each output."""
    return layer.weights, 2 * layer.out_features


def _w4a16(layer: LinearLayers, quantization: Quantization) -> tuple[int, int]:
    """``weight_packed``; ``weight_scale`` in 16 bits, and ``weight_shape``."""
    inputs = layer.in_features
    assert quantization.group_size is not None
    size = inputs if quantization.group_size == -1 else quantization.group_size
    if inputs % size:
        raise ValueError(
            f"group_size={size}: {layer.name} has {inputs} inputs, which do not divide by it"
        )
    return layer.weights // 2, 2 * layer.out_features * (inputs // size) + 2 * 8


def _mxfp4(layer: LinearLayers, _: Quantization) -> tuple[int, int]:
    """Two weights a byte, and an exponent for 32 of them."""
    return layer.weights // 2, layer.weights // 32


def _nvfp4(layer: LinearLayers, _: Quantization) -> tuple[int, int]:
    """Two weights a byte, an fp8 scale for 16 of them, and a float32 for weights and for inputs."""
    return layer.weights // 2, layer.weights // 16 + 2 * 4


def _gguf(layer: LinearLayers, quantization: Quantization) -> tuple[int, int]:
    """What most weights take: 16 bits of scales for each 32 weights. Files mix several types."""
    assert quantization.bits is not None
    return layer.weights * quantization.bits // 8, layer.weights // 16


METHODS: Mapping[str, QuantizationMethod] = {
    "none": QuantizationMethod(
        loaders=(TRANSFORMERS, VLLM),
        experts=(TRANSFORMERS, VLLM),
        expert_biases=True,
        vllm_classes=("Unquantized",),
    ),
    "gptq": QuantizationMethod(
        bits=(4, 8),
        packed=True,
        # gptqmodel 7.6: every CUDA kernel takes float16, none float32.
        cuda_dtypes=("float16", "bfloat16"),
        # What AWQ's CUDA kernels take; GPTQ's take it too, and the two stay comparable.
        gpu_dtype="float16",
        loaders=(TRANSFORMERS, VLLM),
        experts=(TRANSFORMERS, VLLM),
        vllm_classes=("GPTQ", "MoeWNA16"),
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
        # gptqmodel makes no such experts, and published ones are read by nobody here.
        loaders=(TRANSFORMERS, VLLM),
        vllm_classes=("AWQ",),
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
        loaders=(TRANSFORMERS, VLLM),
        # torchao sees no experts in transformers 5, which keeps those of a layer in one tensor.
        experts=(VLLM,),
        vllm_classes=("Fp8",),
        # Ada. Older GPUs, and vLLM on a CPU, cannot multiply in fp8.
        capability=(8, 9),
        oldest_gpus=_ADA,
        libraries=("torchao",),
        layer_bytes=_fp8,
    ),
    "fp8_block": QuantizationMethod(
        bits=(8,),
        packed=True,
        made_here=False,
        written_as=("fp8",),
        group_sizes={8: _FP8_BLOCK},
        # transformers multiplies by kernels that it downloads.
        loaders=(VLLM,),
        experts=(VLLM,),
        vllm_classes=("Fp8",),
        gpu_dtype="bfloat16",
        capability=(8, 9),
        oldest_gpus=_ADA,
        layer_bytes=_fp8_block,
    ),
    "w4a16": QuantizationMethod(
        bits=(4,),
        packed=True,
        made_here=False,
        written_as=("compressed-tensors",),
        # transformers unpacks it to 16 bits at the first forward, and would measure those.
        loaders=(VLLM,),
        experts=(VLLM,),
        vllm_classes=("CompressedTensorsWNA16",),
        layer_bytes=_w4a16,
    ),
    "w8a8": QuantizationMethod(
        bits=(8,),
        packed=True,
        made_here=False,
        written_as=("compressed-tensors",),
        group_sizes={8: -1},
        loaders=(VLLM,),
        vllm_classes=("CompressedTensorsW8A8Int8",),
        int8_bits=(8,),
        layer_bytes=_by_output,
    ),
    "fp8_dynamic": QuantizationMethod(
        bits=(8,),
        packed=True,
        made_here=False,
        written_as=("compressed-tensors",),
        group_sizes={8: -1},
        loaders=(VLLM,),
        experts=(VLLM,),
        vllm_classes=("CompressedTensorsW8A8Fp8",),
        gpu_dtype="bfloat16",
        capability=(8, 9),
        oldest_gpus=_ADA,
        layer_bytes=_by_output,
    ),
    "mxfp4": QuantizationMethod(
        bits=(4,),
        packed=True,
        made_here=False,
        packed_floats=True,
        group_sizes={4: 32},
        # transformers has kernels that it downloads, and else unpacks it.
        loaders=(VLLM,),
        experts=(VLLM,),
        experts_only=True,
        expert_biases=True,
        vllm_classes=("Mxfp4",),
        gpu_dtype="bfloat16",
        # Marlin's kernel of vLLM; only Blackwell multiplies in fp4.
        capability=(8, 0),
        oldest_gpus=_AMPERE,
        layer_bytes=_mxfp4,
    ),
    "nvfp4": QuantizationMethod(
        bits=(4,),
        packed=True,
        made_here=False,
        packed_floats=True,
        written_as=("compressed-tensors", "modelopt"),
        group_sizes={4: 16},
        loaders=(VLLM,),
        experts=(VLLM,),
        vllm_classes=("CompressedTensorsW4A4", "ModelOptNvFp4", "ModelOptFp4"),
        gpu_dtype="bfloat16",
        capability=(10, 0),
        oldest_gpus="NVIDIA Blackwell",
        layer_bytes=_nvfp4,
    ),
    "gguf": QuantizationMethod(
        bits=(1, 2, 3, 4, 5, 6, 8),
        packed=True,
        made_here=False,
        group_sizes=dict.fromkeys((1, 2, 3, 4, 5, 6, 8), 32),
        # transformers 5.23 keeps blocks packed in Qwen3.5 and LFM2 alone, with kernels that it
        # downloads, and dequantizes all others: llama.cpp's server computes with them.
        loaders=(LLAMA_CPP,),
        experts=(LLAMA_CPP,),
        expert_biases=True,
        instead="quant=none runs a GGUF file dequantized",
        layer_bytes=_gguf,
    ),
}
"""Every method, by the name that the configuration has for it."""
