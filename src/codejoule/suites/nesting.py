"""Whether a line of Python begins a statement, told line by line."""

import re

_CODE = re.compile(r"#.*|\"\"\"|'''|[\"']|[\[({]|[\])}]")
_STRING = {quote: re.compile(r"\\.|" + quote, re.DOTALL) for quote in ('"', "'", '"' * 3, "'" * 3)}


class Nesting:
    """What the lines so far have left open: brackets, a string, a continued line.

    It looks at no grammar: of text that is not Python it says something, which the parser has
    to confirm.
    """

    def __init__(self) -> None:
        self._quote = ""
        self._brackets = 0
        self._continued = False

    @property
    def is_open(self) -> bool:
        """Whether the next line goes on with a statement that has begun."""
        return bool(self._quote) or self._brackets > 0 or self._continued

    def take(self, line: str) -> None:
        """Read the next line, without its line break."""
        place = 0
        commented = False
        while (found := self._next(line, place)) is not None:
            place = found.end()
            self._pass(found.group())
            commented = not self._quote and found.group().startswith("#")
        self._continued = line.endswith("\\") and not commented
        if len(self._quote) == 1 and not self._continued:
            self._quote = ""  # such a string cannot go on; what follows is as it may be

    def _next(self, line: str, place: int) -> re.Match[str] | None:
        return (_STRING[self._quote] if self._quote else _CODE).search(line, place)

    def _pass(self, sign: str) -> None:
        if self._quote:
            self._quote = "" if sign == self._quote else self._quote
        elif sign[0] in "\"'":
            self._quote = sign
        elif sign in "([{":
            self._brackets += 1
        elif sign in ")]}":
            self._brackets = max(0, self._brackets - 1)
