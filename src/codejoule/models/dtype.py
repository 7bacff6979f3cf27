"""The dtype that a model is loaded in."""

from codejoule.config.schema import Dtype, Method, ModelConfig, QuantConfig


def dtype_in_force(model: ModelConfig, quant: QuantConfig, *, device: str, own: str) -> str:
    """Name of the dtype; `own` is that of the weights as they are kept."""
    if model.dtype is not Dtype.auto:
        return model.dtype.name
    if device == "cpu":
        return "float32"
    if quant.method is not Method.none:
        # What AWQ's CUDA kernels take; GPTQ's take it too, and the two stay comparable.
        return "float16"
    return own
