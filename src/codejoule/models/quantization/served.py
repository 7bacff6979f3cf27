"""Weights that only an engine with a model of its own computes with as they are stored."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.config import UserError
from codejoule.config.schema import QuantConfig
from codejoule.domain.engines import engines_for
from codejoule.models.placement import Placement
from codejoule.models.quantization.base import DeclaredQuantization, Kernel, Quantizer, Tensors

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel


class ServedQuantizer(Quantizer):
    """A method that is never loaded into this process. transformers would unpack such weights, or
    multiply by kernels that it downloads: neither is what was asked for."""

    # Its engine names those that ran.
    kernels = (Kernel(name="its engine's", kind=""),)

    def prepare(self, quant: QuantConfig, *, dtype: "torch.dtype", device: str) -> QuantConfig:
        """Nothing is prepared here: refused."""
        raise self._refusal(quant)

    def load(
        self,
        folder: Path,
        config: "PretrainedConfig",
        quant: QuantConfig,
        declared: DeclaredQuantization | None,
        *,
        dtype: "torch.dtype",
        place: Placement,
        source: str,
    ) -> tuple["PreTrainedModel", dict[str, Any]]:
        """Refused."""
        raise self._refusal(quant)

    def random(
        self,
        architecture: Mapping[str, Any],
        quant: QuantConfig,
        *,
        seed: int,
        dtype: "torch.dtype",
        place: Placement,
    ) -> tuple["PreTrainedModel", Mapping[str, Tensors]]:
        """Refused."""
        raise self._refusal(quant)

    def _refusal(self, quant: QuantConfig) -> UserError:
        engines = " or ".join(f"engine={name}" for name in engines_for(self.name))
        return UserError(
            f"quant={quant.name}: transformers does not compute with {self.name} weights as they "
            f"are stored; choose {engines}"
        )
