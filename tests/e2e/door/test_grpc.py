"""The door over gRPC: answers, and every kind of bad input as a typed error after which the next call works."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.rpc import error_details_pb2
from grpc_status.rpc_status import from_call
from mycel.chat.v1 import chat_service_pb2 as chat_pb
from mycel.chat.v1 import types_pb2

from tests.e2e.door.door import AUTHORIZATION, Door, conversation, question

UNCACHED = (AUTHORIZATION, ("x-mycel-cache", "off"))


async def refusal(call: Any) -> tuple[grpc.StatusCode, error_details_pb2.ErrorInfo, str]:
    """Gives the code, the details and the message of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    status = from_call(raised.value)
    info = error_details_pb2.ErrorInfo()
    assert status is not None, raised.value
    assert status.details[0].Unpack(info)
    return raised.value.code(), info, status.message


def with_parameters(**parameters: Any) -> chat_pb.ChatRequest:
    request = question("Hello?")
    for name, value in parameters.items():
        target = request.input.parameters
        getattr(target, name).extend(value) if isinstance(value, list) else setattr(target, name, value)
    return request


def with_message(**fields: Any) -> chat_pb.ChatRequest:
    message = types_pb2.Message(**{"role": types_pb2.ROLE_USER, "content": [types_pb2.ContentPart(text="?")]} | fields)
    return chat_pb.ChatRequest(model="auto", input=types_pb2.ChatInput(messages=[message]))


async def test_an_answer_in_one_piece(door: Door) -> None:
    async with door.chat() as stub:
        call = stub.Chat(question("Who carries water?"), metadata=UNCACHED)
        response = await call
        headers = dict(await call.initial_metadata())
    assert response.choices[0].message.content[0].text == door.answer
    assert response.usage.completion_tokens > 0
    assert headers["x-mycel-cache"] == "bypass"
    assert headers["x-mycel-model"] == response.summary.model == "tiny"
    assert headers["x-mycel-provider"] == "local"
    assert headers["x-mycel-tier"] in ("low", "medium", "high")
    assert headers["x-mycel-attempts"] == "1"
    assert headers["x-mycel-trace-id"] == response.summary.trace_id != ""


async def test_an_answer_piece_by_piece(door: Door) -> None:
    events = []
    async with door.chat() as stub:
        request = chat_pb.StreamChatRequest(model="tiny", input=conversation("Who carries water?"))
        async for event in stub.StreamChat(request, metadata=UNCACHED):
            events.append(event)
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "completed"
    deltas = [event.delta for event in events if event.WhichOneof("event") == "delta"]
    assert "".join(delta.text for delta in deltas) == door.answer
    assert len([delta for delta in deltas if delta.text]) > 1
    assert events[-1].completed.summary.tier == "pinned"


async def test_the_same_again_is_an_exact_hit(door: Door) -> None:
    request = question("What is asked twice over gRPC?")
    async with door.chat() as stub, asyncio.timeout(30):
        first = await stub.Chat(request, metadata=(AUTHORIZATION,))
        assert first.summary.cache == "miss"
        # The answer is stored off the caller's path: it may take a moment. If that moment is between the two parts of
        # a lookup, the exact one comes too early and the semantic one finds it.
        while (again := await stub.Chat(request, metadata=(AUTHORIZATION,))).summary.cache != "exact":
            assert again.summary.cache in ("miss", "semantic")
    assert again.choices == first.choices
    assert again.usage == first.usage
    assert again.summary.attempts == 0


BAD_REQUESTS = {
    "no messages": (chat_pb.ChatRequest(model="auto", input=types_pb2.ChatInput()), "messages"),
    "no input": (chat_pb.ChatRequest(model="auto"), "messages"),
    "no role": (with_message(role=types_pb2.ROLE_UNSPECIFIED), "messages[0].role"),
    "a role that does not exist": (with_message(role=99), "messages[0].role"),
    "no content": (with_message(content=[]), "messages[0].content"),
    "an empty text": (with_message(content=[types_pb2.ContentPart(text=" ")]), "messages[0].content"),
    "an empty part": (with_message(content=[types_pb2.ContentPart()]), "messages[0].content[0]"),
    "a negative temperature": (with_parameters(temperature=-0.5), "temperature"),
    "temperature NaN": (with_parameters(temperature=float("nan")), "temperature"),
    "temperature infinite": (with_parameters(temperature=float("inf")), "temperature"),
    "top_p NaN": (with_parameters(top_p=float("nan")), "top_p"),
    "top_p 0": (with_parameters(top_p=0.0), "top_p"),
    "presence_penalty NaN": (with_parameters(presence_penalty=float("nan")), "presence_penalty"),
    "frequency_penalty 3": (with_parameters(frequency_penalty=3.0), "frequency_penalty"),
    "max_tokens 0": (with_parameters(max_tokens=0), "max_tokens"),
    "max_tokens -1": (with_parameters(max_tokens=-1), "max_tokens"),
    "n 0": (with_parameters(n=0), "n"),
    "n -1": (with_parameters(n=-1), "n"),
    "an empty stop text": (with_parameters(stop=[""]), "stop"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
async def test_a_wrong_field_is_named(door: Door, name: str) -> None:
    request, field = BAD_REQUESTS[name]
    streamed = chat_pb.StreamChatRequest(model=request.model, input=request.input)
    async with door.chat() as stub:
        for call in (stub.Chat(request, metadata=UNCACHED), stub.StreamChat(streamed, metadata=UNCACHED).read()):
            code, info, message = await refusal(call)
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert (info.reason, info.domain) == ("INVALID_ARGUMENT", "mycel")
            assert info.metadata["field"] == field
            assert field in message
    await door.works()


async def test_an_unknown_model_names_the_known_ones(door: Door) -> None:
    async with door.chat() as stub:
        for model in ("gpt-9", "", "AUTO", "tiny ", "é" * 2000):
            code, info, message = await refusal(stub.Chat(question("?", model), metadata=UNCACHED))
            assert code is grpc.StatusCode.NOT_FOUND
            assert (info.reason, info.metadata["field"]) == ("MODEL_NOT_FOUND", "model")
            assert {"auto", "tiny", "endless"} <= set(info.metadata["known"].split(", "))
            assert "tiny" in message
    await door.works()


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", ""),),
        (("authorization", "mycel-dev"),),
        (("authorization", "Bearer "),),
        (("authorization", "Bearer wrong"),),
        (("authorization", "Basic bXljZWw6ZGV2"),),
        (("x-mycel-tenant", "dev"),),
    ],
)
async def test_a_wrong_or_missing_key(door: Door, metadata: tuple[tuple[str, str], ...]) -> None:
    async with door.chat() as stub:
        code, info, _ = await refusal(stub.Chat(question("?"), metadata=metadata))
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert (info.reason, info.metadata["field"]) == ("UNAUTHENTICATED", "authorization")
    await door.works()


@pytest.mark.parametrize(("header", "value"), [("x-mycel-cache", "sometimes"), ("x-mycel-cache-scope", "x" * 5000)])
async def test_a_wrong_header_is_named(door: Door, header: str, value: str) -> None:
    async with door.chat() as stub:
        code, info, _ = await refusal(stub.Chat(question("?"), metadata=(AUTHORIZATION, (header, value))))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert info.metadata["field"] == header
    await door.works()


@pytest.mark.parametrize(
    "message",
    [b"\xff\xff\xff\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe", question("?").SerializeToString()[:-1]],
    ids=["no message", "cut off", "a name that is not UTF-8", "the last byte missing"],
)
async def test_bytes_that_are_no_message(door: Door, message: bytes) -> None:
    async with grpc.aio.insecure_channel(door.address) as channel:
        call = channel.unary_unary("/mycel.chat.v1.ChatService/Chat")(message, metadata=UNCACHED)
        code, info, _ = await refusal(call)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert info.reason == "INVALID_ARGUMENT"
    await door.works()


async def test_forty_megabytes(door: Door) -> None:
    async with door.chat() as stub, door.openai() as openai:
        for call in (
            stub.Chat(question("x" * 40_000_000), metadata=UNCACHED),
            openai.CreateChatCompletion(HttpBody(data=b"x" * 40_000_000), metadata=UNCACHED).read(),
        ):
            code, info, _ = await refusal(call)
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert info.reason == "REQUEST_TOO_LARGE"
    await door.works()


async def test_a_prompt_that_is_longer_than_the_context(door: Door) -> None:
    async with door.chat() as stub:
        code, info, _ = await refusal(stub.Chat(question("word " * 200_000, "tiny"), metadata=UNCACHED))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert info.reason == "CONTEXT_TOO_LONG"
    await door.works()


async def test_a_deadline_of_one_millisecond(door: Door) -> None:
    async with door.chat() as stub:
        for _ in range(20):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stub.Chat(question("?"), metadata=UNCACHED, timeout=0.001)
            assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await door.works()


async def test_clients_that_go_away_in_mid_stream(door: Door) -> None:
    """More of them than the model has places: were they not given back, the last call would wait for ever."""
    request = chat_pb.StreamChatRequest(model="endless", input=conversation("Go on."))
    async with door.chat() as stub:
        for _ in range(6):
            call = stub.StreamChat(request, metadata=UNCACHED)
            async for event in call:
                if event.WhichOneof("event") == "delta":
                    break
            call.cancel()
        limited = question("Go on.", "endless")
        limited.input.parameters.max_tokens = 4
        response = await stub.Chat(limited, metadata=UNCACHED, timeout=60)
    assert response.usage.completion_tokens == 4
    assert response.choices[0].finish_reason == types_pb2.FINISH_REASON_LENGTH
    await door.works()
