"""Messages between host, init and task: four bytes of length, then JSON. Never pickle.

Functions and constructors that the task calls are bound here, before any untrusted code runs:
replacing them in their modules changes nothing for this one.
"""

import json
import os
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

MAX_FRAME_BYTES = 8 * 2**20
"""Longest message either side will send or accept [bytes]."""

_LENGTH_BYTES = 4
_MAX_TEXT = 4000

_read, _write, _exit = os.read, os.write, os._exit
_quote: Callable[[str], str] = json.encoder.encode_basestring_ascii
_decode: Callable[[str], Any] = json.JSONDecoder().decode


def encode_frame(message: dict[str, Any]) -> bytes:
    """The bytes of `message`; raises ValueError beyond the limit."""
    body = json.dumps(message).encode("utf-8")
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(
            f"{len(body)} bytes; the sandbox takes at most {MAX_FRAME_BYTES} in one message"
        )
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def _announced(head: bytes | bytearray) -> int:
    length = int.from_bytes(head, "big")
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a message of {length} bytes was announced")
    return length


def receive_frame(read: Callable[[int], bytes]) -> dict[str, Any] | None:
    """The next message, or None at the end of what `read` gives. Reads not a byte beyond it, so
    that a forked child may read the one after. Raises ValueError for what is no message."""

    def exactly(count: int) -> bytes:
        data = bytearray()
        while len(data) < count and (part := read(min(count - len(data), 2**20))):
            data += part
        return bytes(data)

    length = _announced(head := exactly(_LENGTH_BYTES))
    body = exactly(length)
    if len(head) < _LENGTH_BYTES or len(body) < length:
        return None
    message = _decode(body.decode("utf-8"))
    if not isinstance(message, dict):
        raise ValueError("a message must be a JSON object")
    return message


def take_frame(buffer: bytearray) -> bytes | None:
    """Remove and return the first whole message body in `buffer`, None while it is incomplete;
    raises ValueError as soon as an excessive length is announced."""
    if len(buffer) < _LENGTH_BYTES:
        return None
    end = _LENGTH_BYTES + _announced(buffer[:_LENGTH_BYTES])
    if len(buffer) < end:
        return None
    body = bytes(buffer[_LENGTH_BYTES:end])
    del buffer[:end]
    return body


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


def _shorten(text: str) -> str:
    if len(text) <= _MAX_TEXT:
        return text
    half = _MAX_TEXT // 2
    return f"{text[:half]}\n[... {len(text) - _MAX_TEXT} characters ...]\n{text[-half:]}"


class VerdictChannel:
    """The task's side: says, in the protocol's order (see `init`), how far the program has
    come."""

    def __init__(self, channel: int, nonce: str, outside_calls: Sequence[str] = ()) -> None:
        self._channel = channel
        self._nonce = nonce
        self._outside_calls = outside_calls

    def _send(self, **message: str) -> None:
        """By hand: encoders of the json module can be replaced."""
        message["nonce"] = self._nonce
        pairs = [f"{_quote(name)}:{_quote(text)}" for name, text in message.items()]
        body = f"{{{','.join(pairs)}}}".encode()
        # Whatever its size: an error here would let the program see this frame.
        _write_all(self._channel, len(body).to_bytes(_LENGTH_BYTES, "big") + body)

    def end(self, phase: str, what: str, *, memory: bool = False) -> NoReturn:
        """Say why the program has failed already, and end."""
        self._send(
            phase=phase,
            what=_shorten(what),
            memory="yes" if memory else "",
            network="yes" if self._outside_calls else "",
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
        self._send(phase="ready")
        message = receive_frame(lambda count: _read(self._channel, count))
        return str(message["tests"]) if message is not None else _exit(1)

    def result(self, results: dict[str, tuple[str, str]]) -> None:
        """What became of the tests, now that nothing untrusted will run."""
        inner = ",".join(
            f"{_quote(name)}:[{_quote(outcome)},{_quote(_shorten(text))}]"
            for name, (outcome, text) in results.items()
        )
        self._send(phase="result", tests=f"{{{inner}}}")
