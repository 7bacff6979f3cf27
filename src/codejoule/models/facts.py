"""What was loaded, as it is on the device."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Facts of a loaded model, inspected rather than assumed."""

    architecture: str
    """Class of the model, e.g. ``Qwen2ForCausalLM``."""
    n_parameters: int
    """Exact number of parameters; a quantized layer counts its weights, not its packing."""
    memory_bytes: int
    """Bytes of all parameters and buffers."""
    weights: str
    """``hub``, ``local``, ``bundled`` or ``random``."""
    source: str
    """Where they came from, e.g. ``hub:ID@COMMIT``."""
    checksum: str
    """What identifies the weights: a SHA-256, the hub's commit, or the random seed."""
    dtype: str
    """Dtype of the unquantized parameters."""
    device: str
    """Device of all parameters, ``cpu`` or ``cuda``."""
    device_map: Mapping[str, int] | None
    """GPU of each part by its path, where there are several; None where one holds everything."""
    attention: str
    """transformers' attention implementation."""
    context_tokens: int | None
    """Positions that the model was made for; None where its config names none."""
    quantization: str
    """``none`` or method, bits and group size, e.g. ``gptq-4bit-g128``."""
    kernel: str | None
    """Name of the kernel of all quantized layers, as ``quant.kernel`` has it; None without."""
    bits: int | None
    """Bits of every quantized layer; None without quantization."""
    group_size: int | None
    """Group size of every quantized layer; None without quantization."""
    calibration_texts: int | None
    """Texts that the weights were calibrated with; None unless they were quantized here."""
    linear_quantized: int
    """Number of quantized linear layers."""
    linear_unquantized: int
    """Number of other linear layers."""
    kernels: Mapping[str, int]
    """Class of each kind of linear layer and how many there are."""
    kernel_notes: Mapping[str, str]
    """What the kernels above do to numbers beyond their name."""
    layers: Sequence[Mapping[str, Any]]
    """Every linear layer: path, class, bits, group size, bits in memory, dtype, device, shape;
    those alike in all but their numbers as one entry with their count."""
    ignored_zero_biases: int
    """Tensors left out because they are biases of zero that the architecture has not."""
    cpu_threads: int | None
    """Threads of the CPU's kernels; None on a GPU."""
    versions: Mapping[str, str]
    """Versions of torch, transformers and the libraries that quantize."""
    values: Sequence[Mapping[str, Any]]
    """Quantized layers whose outputs were compared with what the checkpoint stores: path, kernel,
    number of outputs, of zero points among them, and relative error."""

    def to_json(self) -> dict[str, Any]:
        """The facts as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model on its device, its tokenizer, and the proof of what they are."""

    model: "PreTrainedModel"
    """In evaluation mode."""
    tokenizer: "PreTrainedTokenizerBase"
    """Pads on the left; has a padding token."""
    facts: ModelFacts
    """What was loaded."""
