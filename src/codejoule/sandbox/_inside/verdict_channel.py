"""The task's side of the verdict's protocol; see `init`.

Functions and constructors are bound here, before any untrusted code runs: replacing them in
their modules changes nothing for this one.
"""

import json
import os
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

_MAX_TEXT = 4000

_read, _write, _exit = os.read, os.write, os._exit
_quote: Callable[[str], str] = json.encoder.encode_basestring_ascii
_decode: Callable[[str], Any] = json.JSONDecoder().decode


def describe(error: BaseException) -> str:
    """Traceback of `error` as text, whatever the error does to prevent it."""
    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except BaseException:
        return type(error).__name__


def tell_failure(channel: int, test: str) -> None:
    """Say at once that `test` has failed: nothing that happens later can take it back."""
    _write_all(channel, test.encode("utf-8", "backslashreplace").replace(b"\n", b"?") + b"\n")


def _write_all(channel: int, data: bytes) -> None:
    while data:
        data = data[_write(channel, data) :]


def _send(channel: int, **message: str) -> None:
    """By hand: encoders of the json module can be replaced."""
    pairs = [f"{_quote(name)}:{_quote(text)}" for name, text in message.items()]
    body = f"{{{','.join(pairs)}}}".encode()
    _write_all(channel, len(body).to_bytes(4, "big") + body)


def _receive(channel: int) -> dict[str, Any]:
    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = _read(channel, count - len(data))
            if not part:
                _exit(1)
            data += part
        return data

    message: dict[str, Any] = _decode(exactly(int.from_bytes(exactly(4), "big")).decode("utf-8"))
    return message


def _shorten(text: str) -> str:
    if len(text) <= _MAX_TEXT:
        return text
    half = _MAX_TEXT // 2
    return f"{text[:half]}\n[... {len(text) - _MAX_TEXT} characters ...]\n{text[-half:]}"


class VerdictChannel:
    """Says, in the protocol's order, how far the program has come."""

    def __init__(
        self, channel: int, nonce: str, outside_calls: Callable[[], int] = lambda: 0
    ) -> None:
        self._channel = channel
        self._nonce = nonce
        self._outside_calls = outside_calls

    def end(self, phase: str, what: str, *, memory: bool = False) -> NoReturn:
        """Say why the program has failed already, and end."""
        _send(
            self._channel,
            phase=phase,
            nonce=self._nonce,
            what=_shorten(what),
            memory="yes" if memory else "",
            network="yes" if self._outside_calls() > 0 else "",
        )
        _exit(0)

    def unless_ended(self, ended: tuple[str, bool] | None) -> None:
        """End if the code raised: with which words, and whether for want of memory."""
        if ended is not None:
            self.end("raised", ended[0], memory=ended[1])

    def unless_tampered(self, what: str | None) -> None:
        """End if `what` was found changed."""
        if what is not None:
            self.end("tampered", what)

    def ask_for_tests(self) -> str:
        """Source of the tests, which comes only now that the solution has been executed."""
        _send(self._channel, phase="ready", nonce=self._nonce)
        return str(_receive(self._channel)["tests"])

    def result(self, results: dict[str, tuple[str, str]]) -> None:
        """What became of the tests, now that nothing untrusted will run."""
        inner = ",".join(
            f"{_quote(name)}:[{_quote(outcome)},{_quote(_shorten(text))}]"
            for name, (outcome, text) in results.items()
        )
        _send(self._channel, phase="result", nonce=self._nonce, tests=f"{{{inner}}}")
