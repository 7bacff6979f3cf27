"""GPTQ, 4 or 8 bits (Frantar et al. 2022)."""

from typing import TYPE_CHECKING, Any

from codejoule.config import UserError
from codejoule.config.schema import QuantConfig
from codejoule.models import compat
from codejoule.models.quantization.base import Kernel, StoredLayer, Tensors
from codejoule.models.quantization.packed import PackedQuantizer
from codejoule.models.quantization.packed_words import unpack

if TYPE_CHECKING:
    import torch
    from gptqmodel.quantization import GPTQConfig


class Gptq(PackedQuantizer):
    """Numbers of a word lie along the inputs; ``g_idx`` has each input's group."""

    takes_experts = True
    zero_offset = 1
    # gptqmodel 7.6's own order on each device.
    kernels = (
        Kernel(name="swordfish", kind="SwordfishLinear", device="cuda"),
        Kernel(name="machete", kind="MacheteLinear", device="cuda"),
        Kernel(name="marlin", kind="MarlinLinear", device="cuda"),
        Kernel(name="exllama_v2", kind="ExllamaV2Linear", device="cuda"),
        Kernel(name="triton", kind="TritonV2Linear", device="cuda"),
        Kernel(name="torch", kind="TorchLinear", device="cuda", fallback=True),
        Kernel(
            name="torch_aten",
            kind="TorchAtenLinear",
            device="cpu",
            note="computes in bfloat16 whatever the model's dtype",
        ),
        Kernel(name="torch_fused", kind="TorchFusedLinear", device="cpu"),
        Kernel(
            name="torch_int8",
            kind="TorchInt8Linear",
            device="cpu",
            rounds_to_int8=True,
            repacks_to_int8=True,
            note="weights rounded again, to int8 with one scale per output channel",
        ),
        Kernel(name="torch", kind="TorchLinear", device="cpu", fallback=True),
    )

    def fill(self, layer: Any, quant: QuantConfig, deviation: float) -> None:
        """Inputs in their order."""
        import torch

        super().fill(layer, quant, deviation)
        columns = torch.arange(layer.in_features, device=layer.g_idx.device, dtype=torch.int32)
        layer.g_idx.copy_(columns // layer.group_size)

    def finish(self, model: "torch.nn.Module", quant: QuantConfig) -> None:
        """Kernels take zero points as they are."""
        assert quant.bits is not None
        kinds = {type(module) for module in model.modules() if compat.is_packed(module)}
        compat.zero_points_as_they_are(model, quant.bits, kinds.pop())
        super().finish(model, quant)

    def levels(
        self,
        tensors: Tensors,
        quant: QuantConfig,
        words: "torch.Tensor",
        outputs: "torch.Tensor",
        device: "torch.device",
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Words below one another."""
        assert quant.bits is not None
        packed = tensors["qweight"][:, outputs].to(device)
        return unpack(packed.T, quant.bits).T, tensors["g_idx"].to(device).long()

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

    def recipe(self, quant: QuantConfig, device: str) -> "GPTQConfig":
        """gptqmodel's form of `quant`."""
        from gptqmodel.quantization import GPTQConfig

        return GPTQConfig(
            desc_act=quant.desc_act,
            # On the CPU the library's own choice compiles C++ for 20 s before it packs.
            pack_impl="original" if device == "cpu" else "cpu",
            **self.options(quant, device),
        )

    def quantizing_dtype(self, device: str) -> "torch.dtype":
        """Its sums are better in float32 where speed allows."""
        import torch

        return torch.float32 if device == "cpu" else torch.float16


QUANTIZER = Gptq("gptq")
