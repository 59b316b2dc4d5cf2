"""Every kind of provider answers as the contract says: the same scenarios over all of them."""

from __future__ import annotations

import asyncio
import json

import grpc
import pytest
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion

from tests.fakes import ollama_wire
from tests.fakes.wire_server import wire_server
from tests.integration.provider.conftest import Mesh, finish, question, texts
from tests.integration.provider.dialects import CANARY, Dialect

CALLS = [("call_1", "weather", ['{"city": ', '"Łódź"}']), ("call_2", "time", ['{"zone": "CET"}'])]


async def test_the_official_sdk_reads_the_fake(dialect: Dialect) -> None:
    async with wire_server(dialect.say("hello", " world", finish=dialect.finishes["stop"])) as server:
        assert await dialect.ask(server.url) == "hello world"


async def test_text_is_streamed_in_pieces(mesh: Mesh) -> None:
    events = await mesh.ask()
    assert next(event.WhichOneof("event") for event in events) == "started"
    assert [event.WhichOneof("event") for event in events][-1] == "completed"
    assert events[0].started.provider == "p"
    assert events[0].started.upstream_model
    assert [event.delta.text for event in events if event.delta.text] == ["hello", " world"]
    assert finish(events) == "STOP"
    assert events[-1].completed.usage == chat.Usage(prompt_tokens=5, completion_tokens=2)


async def test_the_key_is_sent_and_nobody_elses(mesh: Mesh) -> None:
    await mesh.ask()
    sent = mesh.server.received[0]
    assert CANARY in sent.headers[mesh.dialect.key_header]
    assert "of-someone-else" not in json.dumps(sent.headers)
    assert sent.headers["accept-encoding"] == "identity"
    assert "traceparent" not in sent.headers


async def test_the_connection_is_used_again(mesh: Mesh) -> None:
    for _ in range(3):
        assert texts(await mesh.ask()) == "hello world"
    assert len(mesh.server.received) == 3


@pytest.mark.parametrize(("word", "reason"), [("length", "LENGTH"), ("filter", "CONTENT_FILTER"), ("unknown", "STOP")])
async def test_why_an_answer_ended(mesh: Mesh, word: str, reason: str) -> None:
    if word not in mesh.dialect.finishes:
        assert mesh.dialect.kind == "ollama", "only Ollama has no filter"
        return
    mesh.server.replies = [mesh.dialect.say("a", finish=mesh.dialect.finishes[word])]
    assert finish(await mesh.ask()) == reason


async def test_parallel_calls_of_tools_are_streamed(mesh: Mesh) -> None:
    mesh.server.replies = [mesh.dialect.call(CALLS)]
    value = question()
    for name in ("weather", "time"):
        value.tools.add(name=name, parameters_schema_json='{"type": "object", "properties": {"city": {"oneOf": []}}}')
    events = await mesh.ask(value)
    assert finish(events) == "TOOL_CALLS"
    made: dict[int, list[str]] = {}
    for event in events:
        for piece in event.delta.tool_calls:
            call = made.setdefault(piece.index, ["", "", ""])
            for place, text in enumerate((piece.id, piece.name, piece.arguments_json)):
                call[place] += text
    assert [call[:2] for call in made.values()] == [["call_1", "weather"], ["call_2", "time"]]
    assert [json.loads(call[2]) for call in made.values()] == [{"city": "Łódź"}, {"zone": "CET"}]
    sent = json.dumps(mesh.server.received[0].body["tools"])
    assert '"oneOf"' in sent, "a schema goes out as it came"


async def test_broken_arguments_are_passed_on(mesh: Mesh) -> None:
    mesh.server.replies = [mesh.dialect.call([("call_1", "f", ['{"a": ', "oops"])])]
    value = question()
    value.tools.add(name="f")
    pieces = [piece.arguments_json for event in await mesh.ask(value) for piece in event.delta.tool_calls]
    assert "".join(pieces) == '{"a": oops'


async def test_usage_counts_cached_and_reasoning_tokens(mesh: Mesh) -> None:
    mesh.server.replies = [mesh.dialect.counted(10, 7, 4, 3)]
    usage = (await mesh.ask())[-1].completed.usage
    reasoning = 0 if mesh.dialect.kind == "ollama" else 3
    assert usage == chat.Usage(
        prompt_tokens=10, completion_tokens=7, cached_prompt_tokens=4, reasoning_tokens=reasoning
    )


async def test_negative_usage_is_none(mesh: Mesh) -> None:
    mesh.server.replies = [mesh.dialect.counted(-10, -7, -4, -3)]
    assert (await mesh.ask())[-1].completed.usage == chat.Usage()


async def test_a_caller_that_goes_away_closes_the_connection(mesh: Mesh) -> None:
    mesh.server.replies = [mesh.dialect.begun(hold=asyncio.Event())]
    call = mesh.stub.StreamCompletion(completion.StreamCompletionRequest(model="m", input=question()), timeout=30)
    async for event in call:
        if event.delta.text == "one":
            break
    await asyncio.wait_for(mesh.server.holding.wait(), 10)
    call.cancel()
    await asyncio.wait_for(mesh.server.hung_up.wait(), 10)


async def test_a_deadline_closes_the_connection(mesh: Mesh) -> None:
    mesh.server.replies = [mesh.dialect.begun(hold=asyncio.Event())]
    call = mesh.stub.StreamCompletion(completion.StreamCompletionRequest(model="m", input=question()), timeout=1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(mesh.server.hung_up.wait(), 10)


async def test_pictures_are_sent(mesh: Mesh) -> None:
    mesh.server.at["/api/show"] = ollama_wire.shown("completion", "vision")
    value = question("what is it?")
    value.messages[0].content.add(image=chat.Image(data=b"\x89PNG", media_type="image/png"))
    assert texts(await mesh.ask(value)) == "hello world"
    sent = next(request for request in mesh.server.received if "messages" in request.body)
    assert "iVBORw==" in json.dumps(sent.body["messages"])


async def test_pictures_by_address_are_sent_or_refused(mesh: Mesh) -> None:
    value = question("what is it?")
    value.messages[0].content.add(image=chat.Image(url="https://example.org/a.png"))
    if mesh.dialect.kind == "ollama":
        error = await mesh.fail(value)
        assert (error.reason_name, error.field) == ("UNSUPPORTED_FEATURE", "messages[0].content[1].image.url")
        assert not mesh.server.received
        return
    await mesh.ask(value)
    assert "https://example.org/a.png" in json.dumps(mesh.server.received[0].body)


async def test_everything_before_is_told(mesh: Mesh) -> None:
    value = chat.ChatInput()
    value.messages.add(role=chat.ROLE_SYSTEM).content.add(text="be brief")
    value.messages.add(role=chat.ROLE_DEVELOPER).content.add(text="be kind")
    value.messages.add(role=chat.ROLE_USER).content.add(text="weather?")
    turn = value.messages.add(role=chat.ROLE_ASSISTANT)
    turn.content.add(text="let me see")
    turn.tool_calls.add(id="c1", name="weather", arguments_json='{"city": "Oslo"}')
    value.messages.add(role=chat.ROLE_TOOL, tool_call_id="c1").content.add(text="snow")
    value.tools.add(name="weather")
    await mesh.ask(value)
    sent = json.dumps(mesh.server.received[0].body)
    for told in ("be brief", "be kind", "weather?", "let me see", "Oslo", "snow", "c1"):
        assert told in sent


async def test_a_json_schema_is_asked_for(mesh: Mesh) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    value = question()
    value.response_format.json_schema.name = "answer"
    value.response_format.json_schema.schema_json = json.dumps(schema)
    await mesh.ask(value)
    body = mesh.server.received[0].body
    match mesh.dialect.kind:
        case "ollama":
            asked = body["format"]
        case "anthropic":
            asked = body["output_config"]["format"]["schema"]
        case _:
            asked = body["response_format"]["json_schema"]["schema"]
    assert asked["properties"] == schema["properties"]
    assert asked["required"] == ["n"]


async def test_models_tell_what_they_can(mesh: Mesh) -> None:
    listed = await mesh.models()
    model = listed.models[0]
    assert model.available
    assert model.capabilities.chat
    assert model.capabilities.tools
    assert model.capabilities.images
    assert model.provider_kind == mesh.dialect.kind
    assert [(status.name, status.on, status.quota_group) for status in listed.providers] == [("p", True, "p")]
