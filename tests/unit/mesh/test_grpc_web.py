"""The demo's gRPC-Web frames."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mesh.demo.grpc_web import GrpcWebError, read_frames


def frame(flags: int, payload: bytes) -> bytes:
    return struct.pack(">BI", flags, len(payload)) + payload


@given(st.lists(st.binary(max_size=300)))
def test_messages_and_trailers_are_told_apart(messages: list[bytes]) -> None:
    body = b"".join(frame(0, message) for message in messages) + frame(0x80, b"grpc-status: 0\r\nGrpc-Message:ok\r\n")
    assert read_frames(body) == (tuple(messages), {"grpc-status": "0", "grpc-message": "ok"})


@pytest.mark.parametrize("cut", [1, 4, 7])
def test_an_answer_that_was_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(GrpcWebError, match="ends within"):
        read_frames(frame(0, b"hello")[:-cut] if cut < 7 else frame(0, b"hello")[:3])
