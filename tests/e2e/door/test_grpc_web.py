"""The door over gRPC-Web, as a browser speaks it."""

from __future__ import annotations

import base64

import pytest
from google.rpc import error_details_pb2, status_pb2
from mycel.chat.v1 import chat_service_pb2 as chat_pb

from tests.clients import grpc_web
from tests.e2e.door.door import Door, conversation, question

CHAT = "/mycel.chat.v1.ChatService/Chat"
STREAM = "/mycel.chat.v1.ChatService/StreamChat"
UNCACHED = {"x-mycel-cache": "off"}


def error_info(response: grpc_web.WebResponse) -> error_details_pb2.ErrorInfo:
    encoded = response.trailers["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))
    assert (status.code, status.message) == (response.status, response.message)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
async def test_an_answer_in_one_piece(door: Door, text: bool) -> None:
    async with door.http() as client:
        request = question("Who carries water?").SerializeToString()
        response = await grpc_web.call(client, CHAT, request, metadata=UNCACHED, text=text)
    assert response.status == 0
    (message,) = response.messages
    assert chat_pb.ChatResponse.FromString(message).choices[0].message.content[0].text == door.answer
    assert response.headers["x-mycel-model"] == "tiny"


@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
async def test_an_answer_piece_by_piece(door: Door, text: bool) -> None:
    request = chat_pb.StreamChatRequest(model="tiny", input=conversation("Who carries water?"))
    async with door.http() as client:
        response = await grpc_web.call(client, STREAM, request.SerializeToString(), metadata=UNCACHED, text=text)
    assert response.status == 0
    events = [chat_pb.StreamChatResponse.FromString(message) for message in response.messages]
    assert events[0].WhichOneof("event") == "started"
    assert events[-1].WhichOneof("event") == "completed"
    assert "".join(event.delta.text for event in events) == door.answer


@pytest.mark.parametrize("method", [CHAT, STREAM])
async def test_bad_input(door: Door, method: str) -> None:
    cases = [
        (chat_pb.ChatRequest(model="auto").SerializeToString(), 3, "INVALID_ARGUMENT", "messages"),
        (question("?", "gpt-9").SerializeToString(), 5, "MODEL_NOT_FOUND", "model"),
    ]
    async with door.http() as client:
        for request, code, reason, field in cases:
            response = await grpc_web.call(client, method, request, metadata=UNCACHED)
            assert response.status == code
            info = error_info(response)
            assert (info.reason, info.metadata["field"]) == (reason, field)
            assert response.messages == []
        response = await grpc_web.call(client, method, b"\xff\xff\xff\xff", metadata=UNCACHED)
        assert (response.status, error_info(response).reason) == (3, "INVALID_ARGUMENT")
    await door.works()


async def test_a_wrong_key(door: Door) -> None:
    async with door.http(authorization="Bearer wrong") as client:
        response = await grpc_web.call(client, CHAT, question("?").SerializeToString())
    assert response.status == 16
    assert error_info(response).reason == "UNAUTHENTICATED"
    await door.works()


async def test_a_service_that_is_not_at_the_door(door: Door) -> None:
    async with door.http() as client:
        response = await grpc_web.call(client, "/mycel.cache.v1.CacheService/GetStats", b"")
    assert response.status == 12
    await door.works()
