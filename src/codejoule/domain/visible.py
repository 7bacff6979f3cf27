"""Text from outside, as it may be shown on a terminal."""


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
