"""How transformers is told to generate."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codejoule.config.schema import GenerationConfig

if TYPE_CHECKING:
    import transformers


def generation_settings(
    generation: GenerationConfig,
    *,
    max_new_tokens: int,
    end_tokens: Sequence[int],
    pad_token: int | None,
) -> "transformers.GenerationConfig":
    """Every setting that shapes the text, said aloud."""
    from transformers import GenerationConfig as Settings

    chosen: dict[str, Any] = {
        "do_sample": generation.do_sample,
        "num_beams": 1,
        "repetition_penalty": 1.0,
        "max_new_tokens": max_new_tokens,
        "eos_token_id": list(end_tokens) or None,
        "pad_token_id": pad_token,
        "use_cache": True,
    }
    if generation.do_sample:
        top_p = generation.top_p
        chosen |= {
            "temperature": generation.temperature,
            "top_p": 1.0 if top_p is None else top_p,
            # transformers' default of 50 would cut the tail that top_p leaves.
            "top_k": 0,
        }
    return Settings(**chosen)
