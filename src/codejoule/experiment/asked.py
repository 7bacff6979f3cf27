"""What a run asks: the text that each task becomes for its model."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from codejoule.config.schema import ExperimentConfig, Variant
from codejoule.domain import Prompt, Suite

if TYPE_CHECKING:
    from codejoule.models import Checkpoint


def ask(
    experiment: ExperimentConfig, suite: Suite, checkpoint: "Checkpoint"
) -> tuple[ExperimentConfig, dict[str, Prompt]]:
    """The prompt of each task (its first sample's), by task; and `experiment` with the variant of
    its model, which the tokenizer tells where ``model.variant=null``.

    Only a base model's prompts can be had without its tokenizer. Raises `ConfigError` for a
    tokenizer that cannot put the tasks into a chat.
    """
    from codejoule.models import load_tokenizer
    from codejoule.suites import build_prompt

    def render(messages: list[dict[str, str]]) -> str:
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        assert isinstance(text, str)
        return text

    variant = experiment.model.variant
    if variant is not Variant.base:
        tokenizer = load_tokenizer(checkpoint, experiment.model)
        variant = variant or (Variant.instruct if tokenizer.chat_template else Variant.base)
    model = dataclasses.replace(experiment.model, variant=variant)
    prompts = {
        task.task_id: build_prompt(
            task,
            split=experiment.suite.split,
            variant=variant,
            sample=0,
            render_chat=render,
        )
        for task in suite.tasks
    }
    return dataclasses.replace(experiment, model=model), prompts


def prompts_checksum(prompts: Mapping[str, Prompt]) -> str:
    """SHA-256 (hex) over all that engines are given of the prompts."""
    facts = [dataclasses.astuple(prompt) for prompt in prompts.values()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
