"""Native gRPC through Envoy: calls, streams, health and reflection; errors are typed whoever made them."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status.rpc_status import from_call
from mycel.chat.v1 import chat_service_pb2 as chat_pb
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.errors import MEANINGS, MycelError, reason_name
from services.common.status import from_rpc_error
from tests.integration.envoy.door import CHAT, LIST_MODELS, OPENAI, Door, chat_stub, openai_stub, running_envoy


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


def error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """Reads the details as clients do: grpc_status refuses them when they contradict the call's own status."""
    status = from_call(error)
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


async def test_a_call_with_metadata_both_ways(door: Door) -> None:
    seen: dict[str, str] = {}

    async def answer(request, context):
        seen.update(context.invocation_metadata())
        await context.send_initial_metadata((("x-mycel-cache", "exact"),))
        return chat_pb.ChatResponse(id=request.model)

    door.script.chat = answer
    async with door.channel() as channel:
        metadata = (("authorization", "Bearer k"), ("x-mycel-cache", "exact"), ("x-mycel-tenant", "another"))
        call = chat_stub(channel).Chat(chat_pb.ChatRequest(model="auto"), metadata=metadata)
        assert (await call).id == "auto"
        headers = dict(await call.initial_metadata())
    assert headers["x-mycel-cache"] == "exact"
    assert seen["authorization"] == "Bearer k"
    assert "x-mycel-tenant" not in seen


async def test_a_stream_is_not_held_back(door: Door) -> None:
    first_seen = asyncio.Event()

    async def stream(request, context):
        yield chat_pb.StreamChatResponse(started=chat_pb.ChatStarted(id="1"))
        await first_seen.wait()
        yield chat_pb.StreamChatResponse(completed=chat_pb.ChatCompleted())

    door.script.stream = stream
    kinds = []
    async with door.channel() as channel:
        async for event in chat_stub(channel).StreamChat(chat_pb.StreamChatRequest()):
            kinds.append(event.WhichOneof("event"))
            first_seen.set()
    assert kinds == ["started", "completed"]


async def test_the_json_service_takes_native_calls_too(door: Door) -> None:
    async with door.channel() as channel:
        bodies = [body.data async for body in openai_stub(channel).CreateChatCompletion(HttpBody(data=b"{}"))]
    assert bodies == [b'{"ok":true}']


async def test_cancelling_a_call_cancels_the_handler(door: Door) -> None:
    cancelled = asyncio.Event()

    async def endless(request, context):
        try:
            yield chat_pb.StreamChatResponse(started=chat_pb.ChatStarted(id="1"))
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    door.script.stream = endless
    async with door.channel() as channel:
        call = chat_stub(channel).StreamChat(chat_pb.StreamChatRequest())
        await call.read()
        call.cancel()
        async with asyncio.timeout(10):
            await cancelled.wait()
        assert (await chat_stub(channel).Chat(chat_pb.ChatRequest())).id == "chat-1"


async def test_the_callers_deadline_reaches_the_service(door: Door) -> None:
    left = []

    async def slow(request, context):
        left.append(context.time_remaining())
        await asyncio.Event().wait()

    door.script.chat = slow
    async with door.channel() as channel:
        error = await refusal(chat_stub(channel).Chat(chat_pb.ChatRequest(), timeout=0.5))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        error = await refusal(chat_stub(channel).Chat(chat_pb.ChatRequest(), timeout=0.001))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0 < left[0] < 1, "the deadline is the caller's, not the limit of 600 s"


async def test_every_reason_comes_through(door: Door) -> None:
    async with door.channel() as channel:
        for reason, meaning in MEANINGS.items():

            async def fail(request, context, reason=reason):
                raise MycelError(reason, "what 'happened' é", field="n", retry_after=1.5)

            door.script.chat = fail
            error = await refusal(chat_stub(channel).Chat(chat_pb.ChatRequest()))
            assert error.code().value[0] == meaning.code
            info = error_info(error)
            assert info.reason == reason_name(reason)
            assert info.metadata["field"] == "n"
            assert from_rpc_error(error, "router").retry_after == 1.5


@pytest.mark.parametrize("size", [32 * 1024 * 1024 + 1, 40 * 1024 * 1024])
async def test_a_message_that_is_too_large_is_a_typed_error(door: Door, size: int) -> None:
    async with door.channel() as channel:
        error = await refusal(openai_stub(channel).CreateEmbedding(HttpBody(data=b"x" * size)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        info = error_info(error)
        assert (info.reason, info.domain) == ("REQUEST_TOO_LARGE", "mycel")
        assert from_rpc_error(error, "router").reason == ErrorReason.ERROR_REASON_REQUEST_TOO_LARGE
        assert (await openai_stub(channel).ListModels(LIST_MODELS)).data


async def test_an_unknown_service_and_an_unknown_method(door: Door) -> None:
    async with door.channel() as channel:
        for method in ("/mycel.cache.v1.CacheService/Invalidate", "/mycel.chat.v1.ChatService/Nothing"):
            error = await refusal(channel.unary_unary(method)(b""))
            assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_health_and_reflection(door: Door) -> None:
    async with door.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", CHAT, OPENAI):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        requests = iter([reflection_pb2.ServerReflectionRequest(list_services="*")])
        names = [
            service.name
            async for answer in reflection.ServerReflectionInfo(requests)
            for service in answer.list_services_response.service
        ]
    assert {CHAT, OPENAI} <= set(names)


async def test_a_router_that_is_down_is_a_typed_error_at_once() -> None:
    async with running_envoy() as door, door.channel() as channel:
        error = await refusal(chat_stub(channel).Chat(chat_pb.ChatRequest(), timeout=10))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error_info(error).reason == "BACKEND_UNAVAILABLE"
        async with door.serve("router", door.router()):
            assert (await chat_stub(channel).Chat(chat_pb.ChatRequest())).id == "chat-1"
