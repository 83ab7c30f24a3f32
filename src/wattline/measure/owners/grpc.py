"""One call of gRPC over a Unix socket, without a library: enough HTTP/2 to ask the kubelet one question.

RFC 9113: the preface, SETTINGS, one HEADERS frame with literal fields (RFC 7541, 6.2.2: no table, no Huffman), one DATA
frame with the message behind its five bytes of gRPC framing; then DATA frames of the answer until the stream ends. The
answer's headers are not decoded: an answer without a message is a failure.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Final

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7, 0x8
_END_STREAM, _END_HEADERS, _ACK, _PADDED = 0x1, 0x4, 0x1, 0x8
# An answer larger than this is none of the kubelet's: a node has at most some hundred pods.
MOST_BYTES: Final = 1 << 24


class GrpcError(OSError):
    """The call failed; the text says how."""


def call(path: str, method: str, message: bytes = b"", timeout: float = 2.0) -> bytes:
    """The answer's message to one unary call at a Unix socket; `method` is ``/package.Service/Method``.

    Raises
    ------
    GrpcError : nobody listens, the stream was reset, or there was no answer.
    """
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(timeout)
            sock.connect(path)
            fields = (
                (b":method", b"POST"), (b":scheme", b"http"), (b":path", method.encode()),
                (b":authority", b"localhost"), (b"content-type", b"application/grpc"), (b"te", b"trailers"),
            )  # fmt: skip
            block = b"".join(_literal(name, value) for name, value in fields)
            body = struct.pack(">BI", 0, len(message)) + message
            # Our window is opened wide, so that no answer waits for a word of ours.
            opened = _frame(_SETTINGS, 0, 0, struct.pack(">HI", 0x4, 0x7FFFFFFF)) + _frame(
                _WINDOW, 0, 0, struct.pack(">I", 0x7FFF0000)
            )
            sock.sendall(
                _PREFACE + opened + _frame(_HEADERS, _END_HEADERS, 1, block) + _frame(_DATA, _END_STREAM, 1, body)
            )
            return _message(_answer(sock))
    except TimeoutError:
        raise GrpcError(f"{path} did not answer within {timeout:g} s") from None
    except GrpcError:
        raise
    except OSError as error:
        raise GrpcError(f"{path}: {error.strerror or error}") from None


def _answer(sock: socket.socket) -> bytes:
    """The bytes of all DATA frames of the stream."""
    found = b""
    while True:
        head = _exactly(sock, 9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        stream = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
        payload = _exactly(sock, length)
        if kind == _SETTINGS and not flags & _ACK:
            _say(sock, _frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            _say(sock, _frame(_PING, _ACK, 0, payload))
        elif kind == _GOAWAY or (kind == _RESET and stream == 1):
            raise GrpcError("the call was refused")
        elif kind == _DATA and stream == 1:
            if flags & _PADDED:
                payload = payload[1 : len(payload) - payload[0]]
            found += payload
            if len(found) > MOST_BYTES:
                raise GrpcError("the answer is too long")
        if stream == 1 and kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            return found


def _say(sock: socket.socket, data: bytes) -> None:
    """Send what a server that has said all it has to may no longer want to hear."""
    with contextlib.suppress(OSError):
        sock.sendall(data)


def _message(data: bytes) -> bytes:
    """The message in its gRPC framing."""
    if len(data) < 5:
        raise GrpcError("the call was answered with an error and no message")
    compressed, length = struct.unpack(">BI", data[:5])
    if compressed or len(data) < 5 + length:
        raise GrpcError("the answer is compressed or cut short")
    return data[5 : 5 + length]


def _literal(name: bytes, value: bytes) -> bytes:
    """A header field, never indexed, as plain bytes; both are shorter than 127 here."""
    return b"\x10" + _text(name) + _text(value)


def _text(value: bytes) -> bytes:
    if len(value) < 127:
        return bytes([len(value)]) + value
    return bytes([127, len(value) - 127]) + value


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _exactly(sock: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = sock.recv(count - len(found))
        if not part:
            raise GrpcError("the connection was closed before the answer")
        found += part
    return found
