"""gRPC-Web through Envoy, as a browser speaks it."""

from __future__ import annotations

import base64

import pytest
from google.rpc import error_details_pb2, status_pb2
from mycel.chat.v1 import chat_service_pb2 as chat_pb

from services.common.errors import invalid
from tests.clients import grpc_web
from tests.integration.envoy.door import Door, running_envoy

CHAT = "/mycel.chat.v1.ChatService/Chat"
STREAM = "/mycel.chat.v1.ChatService/StreamChat"

either_encoding = pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])


@either_encoding
async def test_a_call(door: Door, text: bool) -> None:
    async def answer(request, context):
        await context.send_initial_metadata((("x-mycel-cache", "exact"),))
        return chat_pb.ChatResponse(id=request.model)

    door.script.chat = answer
    async with door.http() as client:
        request = chat_pb.ChatRequest(model="auto").SerializeToString()
        response = await grpc_web.call(client, CHAT, request, text=text)
    assert response.status == 0
    assert [chat_pb.ChatResponse.FromString(message).id for message in response.messages] == ["auto"]
    assert response.headers["x-mycel-cache"] == "exact"


@either_encoding
async def test_a_stream(door: Door, text: bool) -> None:
    async def stream(request, context):
        for number in range(5):
            yield chat_pb.StreamChatResponse(started=chat_pb.ChatStarted(id=str(number)))

    door.script.stream = stream
    async with door.http() as client:
        response = await grpc_web.call(client, STREAM, b"", text=text)
    events = [chat_pb.StreamChatResponse.FromString(message) for message in response.messages]
    assert [event.started.id for event in events] == list("01234")
    assert response.status == 0


async def test_an_error_is_typed(door: Door) -> None:
    async def refuse(request, context):
        raise invalid("input.messages", "at least one")

    door.script.chat = refuse
    async with door.http() as client:
        response = await grpc_web.call(client, CHAT, b"")
    assert response.status == 3
    assert response.message == "input.messages: at least one"
    assert _error_info(response).metadata["field"] == "input.messages"


async def test_a_message_that_is_no_message_is_an_error(door: Door) -> None:
    async with door.http() as client:
        assert (await grpc_web.call(client, CHAT, b"\xff\xff\xff")).status != 0
        assert (await grpc_web.call(client, CHAT, b"")).status == 0


async def test_a_router_that_is_down_is_a_typed_error() -> None:
    async with running_envoy() as door, door.http() as client:
        response = await grpc_web.call(client, CHAT, b"")
    assert response.status == 14
    assert _error_info(response).reason == "BACKEND_UNAVAILABLE"


async def test_an_unknown_method_is_unimplemented(door: Door) -> None:
    async with door.http() as client:
        response = await grpc_web.call(client, "/mycel.cache.v1.CacheService/Invalidate", b"")
        assert response.status == 12
        assert response.messages == []
        assert (await grpc_web.call(client, CHAT, b"")).status == 0


def _error_info(response: grpc_web.WebResponse) -> error_details_pb2.ErrorInfo:
    encoded = response.trailers["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))
    assert status.code == response.status
    assert status.message == response.message
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info
