"""What a benchmark's schema implies for generating and judging, wherever its rows come from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteLimits:
    """Where generation ends, and how long tests may take."""

    max_new_tokens: int
    """Limit on new tokens per completion."""
    timeout_s: float
    """Time limit for all tests of one sample; for EvalPlus' formats once for the base and once
    for the further inputs [s]."""
    stop: tuple[str, ...]
    """Strings that end a completion, for every model."""
    stop_base: tuple[str, ...]
    """Further strings that end a completion of a base model."""


_BIGCODEBENCH = SuiteLimits(
    max_new_tokens=1280,
    timeout_s=240.0,
    stop=("<|endoftext|>", "<|endofmask|>", "</s>", "\nif __name__", "\ndef main(", "\nprint("),
    stop_base=("\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert "),
)
_HUMANEVAL = replace(_BIGCODEBENCH, max_new_tokens=512, timeout_s=10.0)
# The model writes the signature itself, so that no `def` may end it.
_MBPP = replace(_HUMANEVAL, stop_base=('\n"""', "\nassert "))
_STARTER = SuiteLimits(
    max_new_tokens=160,
    timeout_s=10.0,
    stop=("\nif __name__", "\nprint("),
    # A base model would go on to the next program.
    stop_base=("\ndef ", "\nclass "),
)

_LIMITS_OF_FORMATS: Mapping[str, SuiteLimits] = {
    "bigcodebench": _BIGCODEBENCH,
    "humaneval": _HUMANEVAL,
    "humaneval_plus": replace(_HUMANEVAL, max_new_tokens=768, timeout_s=60.0),
    "mbpp": _MBPP,
    # One canonical solution (Mbpp/599) takes 40 s on an idle core.
    "mbpp_plus": replace(_MBPP, max_new_tokens=768, timeout_s=120.0),
}
"""By schema."""

LIMITS_OF_BUNDLED: Mapping[str, SuiteLimits] = {
    "starter": _STARTER,
    "starter_large": replace(_STARTER, max_new_tokens=200),
}
"""By name of the suite."""


def limits_of(schema: str, *, bundled: str | None) -> SuiteLimits:
    """Limits of the suite that ships as `bundled`, where there is one, else of rows in `schema`;
    a schema that has none of its own has BigCodeBench's."""
    own = LIMITS_OF_BUNDLED.get(bundled) if bundled else None
    return own or _LIMITS_OF_FORMATS.get(schema, _BIGCODEBENCH)
