"""JSON messages over a stream socket: four bytes of length, then the text. Never pickle."""

import json
import socket
import struct
from typing import Any

MAX_FRAME_BYTES = 8 * 2**20
"""Longest message either side will send or accept [bytes]."""

_LENGTH = struct.Struct(">I")


class FrameTooLargeError(ValueError):
    """A message that exceeds `MAX_FRAME_BYTES`."""


def encode_frame(message: dict[str, Any]) -> bytes:
    """The bytes of `message`; raises `FrameTooLargeError` beyond the limit."""
    body = json.dumps(message).encode("utf-8")
    if len(body) > MAX_FRAME_BYTES:
        raise FrameTooLargeError(
            f"{len(body)} bytes; the sandbox takes at most {MAX_FRAME_BYTES} in one message"
        )
    return _LENGTH.pack(len(body)) + body


def receive_frame(sock: socket.socket) -> dict[str, Any] | None:
    """The next message, or None at the end of the stream. Reads not a byte beyond it, so
    that a forked child may read the one after. Raises ValueError for what is no message."""
    head = _receive_exactly(sock, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > MAX_FRAME_BYTES:
        raise FrameTooLargeError(f"a message of {length} bytes was announced")
    body = _receive_exactly(sock, length)
    if body is None:
        return None
    message = json.loads(body)
    if not isinstance(message, dict):
        raise ValueError("a message must be a JSON object")
    return message


def _receive_exactly(sock: socket.socket, count: int) -> bytes | None:
    parts = []
    while count:
        part = sock.recv(min(count, 2**20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def take_frame(buffer: bytearray) -> bytes | None:
    """Remove and return the first whole message body in `buffer`, None while it is
    incomplete; raises `FrameTooLargeError` as soon as an excessive length is announced."""
    if len(buffer) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(buffer[: _LENGTH.size])
    if length > MAX_FRAME_BYTES:
        raise FrameTooLargeError(f"a message of {length} bytes was announced")
    end = _LENGTH.size + length
    if len(buffer) < end:
        return None
    body = bytes(buffer[_LENGTH.size : end])
    del buffer[:end]
    return body
