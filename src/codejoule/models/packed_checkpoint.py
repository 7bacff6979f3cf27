"""A checkpoint of packed weights, read into the model that it belongs to."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.config.schema import QuantConfig
from codejoule.models.declared import weight_files
from codejoule.models.folder_config import generation_defaults
from codejoule.models.packed import empty_packed_model, finish_packed_model
from codejoule.models.placement import Placement, spread
from codejoule.models.quantization_fields import GPTQ_V2, DeclaredQuantization
from codejoule.models.stored_layer import one_in_each_place

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel


def load_packed_model(
    folder: Path,
    config: "PretrainedConfig",
    quant: QuantConfig,
    declared: DeclaredQuantization,
    *,
    dtype: "torch.dtype",
    place: Placement,
    source: str,
) -> tuple["PreTrainedModel", dict[str, Any]]:
    """The model in `folder` in its place, and what was missing, left over or of another shape.

    Each tensor goes from its file to its place, once. transformers 5 has another way to the
    same modules, but it gives quantized experts random weights.
    """
    import torch
    from safetensors import safe_open

    assert quant.bits is not None
    model = empty_packed_model(config, quant, dtype=dtype, place=place, excepted=declared.excepted)
    places = model.state_dict()
    left, unexpected, mismatched = set(places), [], []
    # Onto several GPUs each tensor goes by way of the CPU.
    through = place.device if place.device_map is None else "cpu"
    for file in weight_files(folder):
        with safe_open(file, framework="pt", device=through) as tensors, torch.no_grad():
            names = tensors.keys()
            for name in names:
                if name not in places:
                    unexpected.append(name)
                    continue
                tensor = tensors.get_tensor(name)
                if declared.layout == GPTQ_V2 and name.endswith(".qzeros"):
                    tensor = tensor - one_in_each_place(quant.bits)
                if tensor.shape == places[name].shape:
                    places[name].copy_(tensor)
                else:
                    mismatched.append(name)
                left.discard(name)
    filled = {tensor.data_ptr() for name, tensor in places.items() if name not in left}
    # A tied tensor is in the file under one of its names; one without elements, such as the
    # order of columns that Machete keeps for desc_act, is in none.
    missing = [
        name for name in left if places[name].numel() and places[name].data_ptr() not in filled
    ]
    info = {
        "missing_keys": missing,
        "unexpected_keys": unexpected,
        "mismatched_keys": mismatched,
    }
    if not missing and not mismatched:
        finish_packed_model(model, quant, source)
        spread(model, place)
    model.generation_config = generation_defaults(folder) or model.generation_config
    return model, info
