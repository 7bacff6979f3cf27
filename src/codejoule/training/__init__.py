"""Training adapters: texts, and the steps that learn them. What they cost is metered elsewhere."""

from codejoule.training.lora import LoraTrainer, Step
from codejoule.training.texts import Example, read_examples

__all__ = ["Example", "LoraTrainer", "Step", "read_examples"]
