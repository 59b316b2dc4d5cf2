"""Finding the field that makes a request undecodable."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mycel.chat.v1 import chat_service_pb2, types_pb2

from services.common.undecodable import Undecodable, find_invalid_utf8, tolerant

_DESCRIPTOR = chat_service_pb2.ChatRequest.DESCRIPTOR


def _request(text: str) -> bytes:
    message = types_pb2.Message(role=types_pb2.ROLE_USER, content=[types_pb2.ContentPart(text=text)])
    chat_input = types_pb2.ChatInput(messages=[types_pb2.Message(), message])
    return chat_service_pb2.ChatRequest(model="auto", input=chat_input).SerializeToString()


def test_the_field_is_named_with_its_path() -> None:
    data = _request("XXXX").replace(b"XXXX", b"\xff\xfe\xff\xfe")
    assert find_invalid_utf8(data, _DESCRIPTOR) == "input.messages[1].content[0].text"


def test_a_sound_message_is_decoded() -> None:
    decode = tolerant(chat_service_pb2.ChatRequest.FromString)
    assert decode is not None
    assert decode(_request("hello")).model == "auto"


def test_invalid_utf8_gives_a_typed_error() -> None:
    decode = tolerant(chat_service_pb2.ChatRequest.FromString)
    assert decode is not None
    result = decode(_request("XXXX").replace(b"XXXX", b"\xff\xfe\xff\xfe"))
    assert isinstance(result, Undecodable)
    assert result.error.field == "input.messages[1].content[0].text"


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    decode = tolerant(chat_service_pb2.ChatRequest.FromString)
    assert decode is not None
    result = decode(data)
    assert isinstance(result, chat_service_pb2.ChatRequest | Undecodable)
