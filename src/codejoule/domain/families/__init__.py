"""Architecture families, one module each."""

from codejoule.domain.architecture import FAMILIES
from codejoule.domain.families import deepseek_v2, llama, qwen2

__all__ = ["FAMILIES"]

for _module in (deepseek_v2, llama, qwen2):
    FAMILIES[_module.FAMILY.model_type] = _module.FAMILY
