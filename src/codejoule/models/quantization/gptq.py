"""GPTQ, 4 or 8 bits (Frantar et al. 2022)."""

from collections.abc import Mapping
from typing import Any

from codejoule.config import UserError
from codejoule.config.schema import QuantConfig
from codejoule.models.quantization.base import StoredLayer
from codejoule.models.quantization.packed import PackedQuantizer, packed_kernels


class Gptq(PackedQuantizer):
    """Numbers of a word lie along the inputs; ``g_idx`` has each input's group."""

    zero_offset = 1
    recipe = "GPTQConfig"
    # Its sums are better in float32 where speed allows.
    exact_on_cpu = True
    kernels = packed_kernels(
        cuda={
            "swordfish": "SwordfishLinear",
            "machete": "MacheteLinear",
            "marlin": "MarlinLinear",
            "exllama_v2": "ExllamaV2Linear",
            "triton": "TritonV2Linear",
            "torch": "TorchLinear",
        },
        cpu={
            "torch_aten": "TorchAtenLinear",
            "torch_fused": "TorchFusedLinear",
            "torch_int8": "TorchInt8Linear",
            "torch": "TorchLinear",
        },
    )

    def check_stored(self, stored: StoredLayer, quant: QuantConfig, where: str, name: str) -> None:
        """Refuse zero points that symmetric weights do not have: kernels for those ignore them."""
        if not quant.sym:
            return
        assert stored.zeros is not None and quant.bits is not None
        middle = 2 ** (quant.bits - 1)
        others = stored.zeros[stored.zeros != middle]
        if others.numel():
            raise UserError(
                f"{where}: declared symmetric, but {name} has zero points of {int(others[0])} "
                f"where symmetric weights have {middle}; its quantization_config is wrong in sym, "
                "or in checkpoint_format (gptq keeps zero points less one, gptq_v2 as they are)"
            )

    def declaration(self, quant: QuantConfig, architecture: Mapping[str, Any]) -> dict[str, Any]:
        """With the layers named: without a checkpoint nobody can see which are quantized."""
        layers = (("q_proj", "k_proj", "v_proj"), ("o_proj",))
        inside = [[f"self_attn.{name}" for name in names] for names in layers]
        return {
            "quant_method": "gptq",
            "bits": quant.bits,
            "group_size": quant.group_size,
            "sym": quant.sym,
            "desc_act": quant.desc_act,
            "lm_head": False,
            "checkpoint_format": "gptq",
            "modules_in_block_to_quantize": [
                *inside, ["mlp.gate_proj", "mlp.up_proj"], ["mlp.down_proj"],
            ],
        }  # fmt: skip

    def recipe_options(self, quant: QuantConfig, device: str) -> dict[str, Any]:
        """On the CPU the library's own choice of packing compiles C++ for 20 s."""
        pack = "original" if device == "cpu" else "cpu"
        return {"desc_act": quant.desc_act, "pack_impl": pack}


QUANTIZER = Gptq("gptq")
