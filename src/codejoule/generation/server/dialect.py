"""Which fields beyond OpenAI's own a server understands."""

import json
from collections.abc import Sequence
from enum import Enum
from typing import Any

from codejoule.config.schema import GenerationConfig
from codejoule.domain import Prompt


class Dialect(Enum):
    """Families of servers, by the fields that they accept."""

    extended = "extended"
    """vLLM, SGLang, llama.cpp: fields of their own beside OpenAI's."""
    transformers = "transformers"
    """``transformers serve``: OpenAI's fields and a whole generation config."""
    plain = "plain"
    """OpenAI's fields alone."""


def body(
    prompt: Prompt,
    *,
    model: str,
    generation: GenerationConfig,
    dialect: Dialect,
    max_tokens: int,
    fixed_length: bool,
    end_tokens: Sequence[int],
    seed: int,
) -> dict[str, Any]:
    """The request for one prompt. Every setting that shapes the text is stated."""
    sample = generation.do_sample
    top_p = generation.top_p if sample and generation.top_p is not None else 1.0
    fields: dict[str, Any] = {
        "model": model,
        "prompt": prompt.text,
        "max_tokens": max_tokens,
        "temperature": generation.temperature if sample else 0.0,
        "top_p": top_p,
        "seed": seed,
        "stream": True,
        # Servers that start from the model's own defaults have a repetition penalty in them
        # (Qwen2.5-Instruct); ``transformers serve`` sets it from this field.
        "frequency_penalty": 0.0,
    }
    if dialect is Dialect.extended:
        fields |= {
            "stream_options": {"include_usage": True},
            "repetition_penalty": 1.0,
            # llama.cpp's word for it; llama-cpp-python's own is 1.1.
            "repeat_penalty": 1.0,
            "add_special_tokens": prompt.add_special_tokens,
        }
        if sample:
            # Off: vLLM takes -1 or 0, llama.cpp 0. llama.cpp's own min_p is 0.05.
            fields |= {"top_k": 0, "min_p": 0.0}
        if fixed_length:
            fields |= {"ignore_eos": True, "min_tokens": max_tokens}
    elif dialect is Dialect.transformers:
        settings: dict[str, Any] = {
            "do_sample": sample,
            "max_new_tokens": max_tokens,
            "repetition_penalty": 1.0,
            "eos_token_id": list(end_tokens) or None,
        }
        if sample:
            settings |= {"temperature": generation.temperature, "top_p": top_p, "top_k": 0}
        if fixed_length:
            settings["min_new_tokens"] = max_tokens
        fields["generation_config"] = json.dumps(settings)
        if not sample:
            # It would set it beside do_sample=False, which is an error.
            del fields["top_p"]
    return fields
