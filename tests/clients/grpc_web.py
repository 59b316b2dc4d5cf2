"""A gRPC-Web client, as small as the protocol allows: frames over HTTP/1.1, binary or base64 text."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

import httpx2

TRAILERS = 0x80
"""The flag of the frame that carries the trailers."""


@dataclass(frozen=True, slots=True)
class WebResponse:
    """What a call gave.

    Attributes:
        messages: The serialized messages, in order.
        headers: The initial metadata.
        trailers: The trailing metadata, grpc-status included; a call that failed at once has them among the headers.
    """

    messages: list[bytes]
    headers: Mapping[str, str]
    trailers: Mapping[str, str]

    @property
    def status(self) -> int:
        """The gRPC status code."""
        return int(self.trailers["grpc-status"])

    @property
    def message(self) -> str:
        """The status's message."""
        return unquote(self.trailers.get("grpc-message", ""))


async def call(
    client: httpx2.AsyncClient,
    method: str,
    request: bytes,
    *,
    metadata: Mapping[str, str] | None = None,
    text: bool = False,
) -> WebResponse:
    """Calls a method.

    Args:
        client: has Envoy's address as its base URL.
        method: such as `/mycel.chat.v1.ChatService/Chat`.
        request: the serialized message.
        metadata: headers of the caller's.
        text: base64 (`grpc-web-text`), as browsers without streams need it.
    """
    content_type = "application/grpc-web-text" if text else "application/grpc-web+proto"
    body = struct.pack(">BI", 0, len(request)) + request
    headers = {"content-type": content_type, "accept": content_type, "x-grpc-web": "1", **(metadata or {})}
    response = await client.post(method, content=base64.b64encode(body) if text else body, headers=headers)
    assert response.status_code == 200, response.text
    # Text comes in parts, each with its own padding.
    payload = b"".join(_decoded(response.content)) if text else response.content
    messages, trailers = _frames(payload)
    return WebResponse(messages, response.headers, trailers or dict(response.headers))


def _decoded(content: bytes) -> list[bytes]:
    return [base64.b64decode(content[at : at + 4]) for at in range(0, len(content), 4)]


def _frames(payload: bytes) -> tuple[list[bytes], dict[str, str]]:
    messages: list[bytes] = []
    trailers: dict[str, str] = {}
    at = 0
    while at < len(payload):
        flags, length = struct.unpack_from(">BI", payload, at)
        frame = payload[at + 5 : at + 5 + length]
        assert len(frame) == length, "a frame was cut off"
        at += 5 + length
        if flags & TRAILERS:
            lines = frame.decode("ascii").split("\r\n")
            trailers |= {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines) if key}
        else:
            messages.append(frame)
    return messages, trailers
