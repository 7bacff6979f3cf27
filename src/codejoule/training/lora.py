"""LoRA: low-rank matrices beside a model's layers, trained while the model stays as it is.

Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models (arXiv 2106.09685); peft makes
and saves the matrices.
"""

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.config import ConfigError, first_line
from codejoule.config.schema import FinetuneConfig
from codejoule.training.texts import Example

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WARMUP_SHARE = 0.1
"""Share of the steps in which the learning rate rises."""
_MAX_NORM = 1.0
"""Gradients are scaled down to this norm."""
_IGNORED = -100
"""Label of a token that the loss does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the optimizer."""

    loss: float
    """Mean cross-entropy per counted token, before the step [nat]."""
    tokens: int
    """Tokens of its texts, padding not counted."""
    learned_tokens: int
    """Those of them that the loss counts."""
    positions: int
    """Token positions that the model computed, padding included."""


class LoraTrainer:
    """Trains an adapter of a model, step by step. The model is changed: it has the adapter's
    matrices from then on.

    Raises `ConfigError` for layers that the model has not, and where no text has a token to learn.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        config: FinetuneConfig,
        examples: Sequence[Example],
    ) -> None:
        import torch
        from peft import LoraConfig, get_peft_model

        self._config = config
        self._pad = tokenizer.pad_token_id or 0
        self._rows = [self._encode(tokenizer, example) for example in examples]
        self.cut = sum(cut for _, _, cut in self._rows)
        """Texts whose end did not fit."""
        self._rows = [row for row in self._rows if row[1] < len(row[0])]
        if not self._rows:
            raise ConfigError(
                f"finetune.max_length={config.max_length}: every text is cut off before its "
                "completion begins, and nothing is left to learn; raise it"
            )
        self.texts = len(self._rows)
        """Texts that have a token to learn."""
        torch.manual_seed(config.seed)
        targets = config.target_modules or "all-linear"
        try:
            self._peft = get_peft_model(
                model,
                LoraConfig(
                    r=config.rank,
                    lora_alpha=config.alpha,
                    target_modules=targets,
                    task_type="CAUSAL_LM",
                ),
            )
        except ValueError as error:
            raise ConfigError(f"finetune.target_modules={targets}: {first_line(error)}") from error
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        self._peft.train()
        self._learnt = [p for p in self._peft.parameters() if p.requires_grad]
        self.trainable_parameters = sum(parameter.numel() for parameter in self._learnt)
        """Numbers that are trained."""
        self.parameters = sum(parameter.numel() for parameter in self._peft.parameters())
        """Numbers of model and adapter."""
        self._optimizer = torch.optim.AdamW(self._learnt, lr=config.learning_rate, weight_decay=0.0)
        self._device = model.device
        self._half = model.dtype if model.dtype != torch.float32 else None
        per_epoch = math.ceil(self.texts / config.batch)
        self.steps = config.steps or per_epoch * config.epochs
        """Steps there will be."""

    def train(self) -> Iterator[Step]:
        """Make every step; each is done when it is given."""
        import torch

        for number, rows in enumerate(self._batches()):
            ids, mask, labels = self._tensors(rows)
            for group in self._optimizer.param_groups:
                group["lr"] = self._config.learning_rate * self._rate(number)
            with self._autocast():
                found = self._peft(
                    input_ids=ids, attention_mask=mask, labels=labels, use_cache=False
                )
            found.loss.backward()
            torch.nn.utils.clip_grad_norm_(self._learnt, _MAX_NORM)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
            yield Step(
                # Read here, so that a step that is given has been made on a GPU, too.
                loss=float(found.loss.detach()),
                tokens=sum(len(row) for row, _, _ in rows),
                learned_tokens=sum(len(row) - max(first, 1) for row, first, _ in rows),
                positions=ids.numel(),
            )

    def save(self, folder: Path, *, base: str) -> None:
        """Write the adapter, as peft reads it; `base` names the model, whose folder on this machine
        is nobody else's affair."""
        self._peft.peft_config["default"].base_model_name_or_path = base
        # "auto" asks the hub whether the vocabulary has grown, which no training here does.
        self._peft.save_pretrained(str(folder), save_embedding_layers=False)
        # A form with nothing filled in.
        (folder / "README.md").unlink(missing_ok=True)

    def _encode(
        self, tokenizer: "PreTrainedTokenizerBase", example: Example
    ) -> tuple[list[int], int, bool]:
        """Tokens, where the completion begins, and whether the end was cut off."""
        # Apart, as they are when the model is asked.
        prompt = tokenizer(example.prompt, add_special_tokens=example.add_special_tokens).input_ids
        rest = tokenizer(example.completion, add_special_tokens=False).input_ids
        whole = [*prompt, *rest, tokenizer.eos_token_id]
        longest = self._config.max_length
        return whole[:longest], len(prompt), len(whole) > longest

    def _batches(self) -> Iterator[list[tuple[list[int], int, bool]]]:
        """So many texts for each step, in an order that is drawn anew for each epoch."""
        rng = random.Random(self._config.seed)
        waiting: list[tuple[list[int], int, bool]] = []
        for _ in range(self.steps):
            if not waiting:
                waiting = rng.sample(self._rows, len(self._rows))
            taken, waiting = waiting[: self._config.batch], waiting[self._config.batch :]
            yield taken

    def _tensors(
        self, rows: Sequence[tuple[list[int], int, bool]]
    ) -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]:
        import torch

        longest = max(len(row) for row, _, _ in rows)
        fill = [longest - len(row) for row, _, _ in rows]
        ids = [row + [self._pad] * n for (row, _, _), n in zip(rows, fill, strict=True)]
        mask = [[1] * len(row) + [0] * n for (row, _, _), n in zip(rows, fill, strict=True)]
        labels = [
            [_IGNORED] * first + row[first:] + [_IGNORED] * n
            for (row, first, _), n in zip(rows, fill, strict=True)
        ]
        made = [torch.tensor(each, device=self._device) for each in (ids, mask, labels)]
        return made[0], made[1], made[2]

    def _rate(self, step: int) -> float:
        """Share of the learning rate: up to 1 in the first steps, then down to 0 by the end."""
        rising = max(1, round(WARMUP_SHARE * self.steps))
        if step < rising:
            return (step + 1) / rising
        return (self.steps - step) / (self.steps - rising + 1)

    def _autocast(self) -> AbstractContextManager[Any]:
        """Matrices are kept in float32, and multiplied in the dtype of the weights beside them."""
        import torch

        if self._half is None:
            return nullcontext()
        autocast: AbstractContextManager[Any] = torch.autocast(self._device.type, dtype=self._half)
        return autocast
