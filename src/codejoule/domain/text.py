"""Figures and texts from outside as a reader needs them."""

import math

THINKING_END = "</think>"
"""What ends the thinking of a model that thinks before it answers, in Qwen's and DeepSeek's
chats."""
FINAL_CHANNEL = "<|channel|>final<|message|>"
"""What ends it in gpt-oss' chats: its answer is a message in a channel of its own, after those in
the channels ``analysis`` and ``commentary`` (harmony response format, OpenAI 2025)."""


THINKING_ENDS = (THINKING_END, FINAL_CHANNEL)
"""Both."""


def thinking_end(chat_template: str) -> str | None:
    """What ends the thinking in chats of this template; None where it knows no thinking."""
    return next((end for end in THINKING_ENDS if end in chat_template), None)


def number(value: float, *, digits: int = 3) -> str:
    """A figure with `digits` significant digits and no exponent; a dash where undefined."""
    if math.isnan(value):
        return "-"
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def duration(seconds: float) -> str:
    """A time as a reader needs it: seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:,.1f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def size(size_bytes: float) -> str:
    """A number of bytes as a reader needs it: MB or GB."""
    return f"{size_bytes / 1e9:,.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:,.0f} MB"


def p_text(value: float) -> str:
    """A p-value as a reader needs it."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_words(value: float) -> str:
    """The same in a sentence, after "p": ``= 0.012``, ``< 0.001`` or ``unknown``."""
    if math.isnan(value):
        return "unknown"
    text = p_text(value)
    return text if text.startswith("<") else f"= {text}"


def visible(text: str) -> str:
    """Write what could steer a terminal as an escape.

    Parameters
    ----------
    text : str
        Text of any origin: names in people's files, a program's output, a server's answer.

    Returns
    -------
    str
        The text with ``\\x1b`` and the like for every character that is not printable; line
        breaks and tabs stay.
    """
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
