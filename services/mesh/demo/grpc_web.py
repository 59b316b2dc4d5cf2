"""gRPC-Web as a browser speaks it: one HTTP/1.1 POST, the message framed by hand."""

from __future__ import annotations

import http.client
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_CONTENT_TYPE: Final = "application/grpc-web+proto"
_HEADER: Final = struct.Struct(">BI")
_TRAILERS: Final = 0x80


class GrpcWebError(Exception):
    """The call failed; the message has the status."""


@dataclass(frozen=True, slots=True)
class GrpcWebAnswer:
    """What came back."""

    messages: tuple[bytes, ...]
    headers: Mapping[str, str]
    """Lower-case names."""


def call(
    address: str, method: str, message: bytes, headers: Mapping[str, str], *, seconds: float = 60.0
) -> GrpcWebAnswer:
    """Makes one call.

    Args:
        address: `host:port` of the ingress.
        method: such as `/mycel.chat.v1.ChatService/Chat`.
        message: the request, serialized.
        headers: metadata.
        seconds: how long each step may take.

    Raises:
        GrpcWebError: the call failed.
        OSError, http.client.HTTPException: nobody answers, or not in HTTP.
    """
    connection = http.client.HTTPConnection(address, timeout=seconds)
    try:
        framed = _HEADER.pack(0, len(message)) + message
        connection.request("POST", method, framed, {"content-type": _CONTENT_TYPE, "x-grpc-web": "1", **headers})
        response = connection.getresponse()
        body = response.read()
        answered = {name.lower(): value for name, value in response.getheaders()}
    finally:
        connection.close()
    messages, trailers = read_frames(body)
    told = trailers or answered  # a call that fails at once has its status in the headers
    if response.status != http.HTTPStatus.OK or told.get("grpc-status") != "0":
        status = told.get("grpc-status", "none")
        raise GrpcWebError(f"HTTP {response.status}, grpc-status {status}: {told.get('grpc-message', '')}")
    return GrpcWebAnswer(messages, answered)


def read_frames(body: bytes) -> tuple[tuple[bytes, ...], dict[str, str]]:
    """Splits a body into its messages and its trailers.

    Raises:
        GrpcWebError: it is cut short.
    """
    messages: list[bytes] = []
    trailers: dict[str, str] = {}
    at = 0
    while at < len(body):
        if at + _HEADER.size > len(body):
            raise GrpcWebError("the answer ends within a frame's header")
        flags, length = _HEADER.unpack_from(body, at)
        at += _HEADER.size
        frame = body[at : at + length]
        if len(frame) < length:
            raise GrpcWebError("the answer ends within a frame")
        at += length
        if flags & _TRAILERS:
            pairs = (line.partition(":") for line in frame.decode("latin-1").split("\r\n") if line)
            trailers |= {name.strip().lower(): value.strip() for name, _, value in pairs}
        else:
            messages.append(frame)
    return tuple(messages), trailers
