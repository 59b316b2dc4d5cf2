"""The provider service over real gRPC, against OpenAI's API on the wire."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import openai
import pytest
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.completion.v1.completion_service_pb2_grpc import CompletionServiceStub

from services.common.channels import open_channel
from services.common.config import load_config
from services.common.errors import MycelError
from services.common.status import from_rpc_error
from services.common.telemetry import Telemetry
from services.provider.serve import running_provider
from services.provider.settings import ProviderSettings
from tests.fakes.openai_server import Answer, OpenAIServer, chunk, error_body, openai_server, text_events, usage_chunk

CANARY = "sk-canary-0123456789abcdef"


@pytest.fixture
async def upstream() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as fake:
        yield fake


@pytest.fixture
async def stub(
    upstream: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[CompletionServiceStub]:
    monkeypatch.setenv("TEST_KEY", CANARY)
    path = tmp_path / "mesh.yaml"
    path.write_text(
        f"providers: {{openai: {{kind: openai, base_url: '{upstream.base_url}', api_key_env: TEST_KEY}},\n"
        "            keyless: {kind: openai, api_key_env: NOT_SET_ANYWHERE}}\n"
        "models: {mini: {provider: openai, model: gpt-4o-mini}, other: {provider: keyless}}\n"
        "routes: {auto: {low: [mini]}}\n"
    )
    settings = ProviderSettings("127.0.0.1:0", load_config(path).mesh)
    async with (
        running_provider(settings, Telemetry.disabled()) as server,
        open_channel(server.address, Telemetry.disabled()) as channel,
    ):
        yield CompletionServiceStub(channel)


def _input(text: str = "hello") -> chat.ChatInput:
    return chat.ChatInput(messages=[chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text=text)])])


async def _ask(
    stub: CompletionServiceStub, value: chat.ChatInput | None = None, model: str = "mini"
) -> list[completion.StreamCompletionResponse]:
    request = completion.StreamCompletionRequest(model=model, input=value or _input())
    return [event async for event in stub.StreamCompletion(request, timeout=20)]


async def _fails(stub: CompletionServiceStub, model: str = "mini") -> MycelError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _ask(stub, model=model)
    return from_rpc_error(caught.value, "provider")


async def test_the_official_sdk_reads_the_fake(upstream: OpenAIServer) -> None:
    async with openai.AsyncOpenAI(api_key="x", base_url=upstream.base_url, max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "hello world"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 7


async def test_an_answer_is_streamed(stub: CompletionServiceStub, upstream: OpenAIServer) -> None:
    events = await _ask(stub)
    assert events[0].started.upstream_model == "gpt-4o-mini-2024-07-18"
    assert "".join(event.delta.text for event in events) == "hello world"
    assert events[-2].delta.finish_reason == chat.FINISH_REASON_STOP
    assert events[-1].completed.usage == chat.Usage(prompt_tokens=5, completion_tokens=2)
    assert upstream.received[0].path == "/v1/chat/completions"
    assert upstream.received[0].headers["authorization"] == f"Bearer {CANARY}"
    assert upstream.received[0].body["model"] == "gpt-4o-mini"


async def test_everything_asked_for_is_sent(stub: CompletionServiceStub, upstream: OpenAIServer) -> None:
    value = _input()
    value.messages[0].content.add(image=chat.Image(data=b"hi", media_type="image/png"))
    value.messages.add(role=chat.ROLE_ASSISTANT).tool_calls.add(id="c", name="f", arguments_json="{}")
    value.messages.add(role=chat.ROLE_TOOL, tool_call_id="c").content.add(text="42")
    value.tools.add(name="f", description="d", parameters_schema_json='{"type":"object"}', strict=True)
    value.tool_choice.mode = chat.TOOL_CHOICE_MODE_REQUIRED
    value.response_format.json_schema.CopyFrom(chat.JsonSchema(name="s", schema_json="{}"))
    value.parameters.MergeFrom(
        chat.GenerationParameters(max_tokens=9, temperature=0, seed=3, stop=["x"], n=2, logprobs=True, top_logprobs=1)
    )
    await _ask(stub, value)
    body = upstream.received[0].body
    assert body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hello"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "42", "tool_call_id": "c"},
    ]
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
    assert body["tools"] == [{"type": "function", "function": function}]
    assert body["tool_choice"] == "required"
    assert body["response_format"] == {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}
    expected = {
        "max_completion_tokens": 9,
        "temperature": 0.0,
        "seed": 3,
        "stop": ["x"],
        "n": 2,
        "logprobs": True,
        "top_logprobs": 1,
    }
    assert {name: body[name] for name in expected} == expected
    assert "top_p" not in body


async def test_tool_calls_logprobs_and_usage_come_back(stub: CompletionServiceStub, upstream: OpenAIServer) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    upstream.answers = [
        Answer(
            events=[
                chunk({"role": "assistant", "tool_calls": [call]}),
                chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"x": 1}'}}]}),
                chunk({"content": "a"}, logprobs={"content": [token], "refusal": None}),
                chunk({}, "tool_calls"),
                usage_chunk(10, 4, cached=8, reasoning=3),
            ]
        )
    ]
    events = await _ask(stub)
    pieces = [piece for event in events for piece in event.delta.tool_calls]
    assert (pieces[0].id, pieces[0].name) == ("c1", "f")
    assert "".join(piece.arguments_json for piece in pieces) == '{"x": 1}'
    logprobs = [record for event in events for record in event.delta.logprobs]
    assert (logprobs[0].token, logprobs[0].logprob, logprobs[0].token_bytes) == ("a", -0.5, b"a")
    assert events[-1].completed.usage == chat.Usage(
        prompt_tokens=10, completion_tokens=4, cached_prompt_tokens=8, reasoning_tokens=3
    )


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(429, body=error_body("slow down"), headers={"retry-after": "7"}), "RATE_LIMITED"),
        (Answer(429, body=error_body("pay up", code="insufficient_quota")), "QUOTA_EXHAUSTED"),
        (Answer(401, body=error_body(f"Incorrect API key provided: {CANARY}")), "BACKEND_AUTH"),
        (Answer(403, body=error_body("no")), "BACKEND_AUTH"),
        (Answer(404, body=error_body("The model does not exist", code="model_not_found")), "BACKEND_MODEL_MISSING"),
        (Answer(400, body=error_body("too long", code="context_length_exceeded")), "CONTEXT_TOO_LONG"),
        (Answer(400, body=error_body("no", code="content_filter")), "CONTENT_FILTERED"),
        (Answer(400, body=error_body("bad seed", param="seed")), "INVALID_ARGUMENT"),
        (Answer(500, body=b"<html>oops</html>", headers={"content-type": "text/html"}), "BACKEND_UNAVAILABLE"),
        (Answer(503, body=error_body("busy")), "OVERLOADED"),
        (Answer(529, body=error_body("busy")), "OVERLOADED"),
        (Answer(302, body=b"", headers={"location": "http://127.0.0.1:1/stolen"}), "BACKEND_UNAVAILABLE"),
        (Answer(drop=True), "BACKEND_UNAVAILABLE"),
        (Answer(body=b"<html>hello</html>", headers={"content-type": "text/html"}), "BACKEND_MALFORMED"),
        (Answer(events=["data: {not json\n\n"]), "BACKEND_MALFORMED"),
        (Answer(events=text_events("half")[:2], done=False), "BACKEND_UNAVAILABLE"),
        (Answer(events=text_events("half")[:2]), "BACKEND_MALFORMED"),
        (Answer(events=['data: {"error": {"message": "died"}}\n\n']), "BACKEND_UNAVAILABLE"),
    ],
)
async def test_failures_have_reasons(
    stub: CompletionServiceStub,
    upstream: OpenAIServer,
    answer: Answer,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    upstream.answers = [answer]
    error = await _fails(stub)
    assert error.reason_name == reason
    assert error.metadata.get("provider") == "openai"
    assert CANARY not in str(error)
    assert CANARY not in caplog.text
    assert len(upstream.received) == 1, "the SDK must not retry"
    upstream.answers = [Answer(events=text_events("fine"))]
    assert "".join(event.delta.text for event in await _ask(stub)) == "fine"


async def test_retry_after_is_passed_on(stub: CompletionServiceStub, upstream: OpenAIServer) -> None:
    upstream.answers = [Answer(429, body=error_body("slow"), headers={"retry-after-ms": "1500", "retry-after": "9"})]
    assert (await _fails(stub)).retry_after == pytest.approx(9)


async def test_cancelling_closes_the_providers_connection(stub: CompletionServiceStub, upstream: OpenAIServer) -> None:
    upstream.answers = [Answer(events=text_events("one")[:2], hold=asyncio.Event())]
    call = stub.StreamCompletion(completion.StreamCompletionRequest(model="mini", input=_input()), timeout=20)
    async for event in call:
        if event.delta.text == "one":
            break
    await asyncio.wait_for(upstream.holding.wait(), 10)
    call.cancel()
    await asyncio.wait_for(upstream.hung_up.wait(), 10)


async def test_a_provider_without_a_key_is_off_and_says_so(stub: CompletionServiceStub) -> None:
    models = (await stub.ListModels(completion.ListModelsRequest(), timeout=10)).models
    states = {model.name: (model.available, model.unavailable_reason) for model in models}
    assert states == {"mini": (True, ""), "other": (False, "NOT_SET_ANYWHERE is not set")}
    error = await _fails(stub, model="other")
    assert (error.reason_name, error.metadata["why"]) == ("PROVIDER_OFF", "NOT_SET_ANYWHERE is not set")


async def test_an_unknown_model_is_refused(stub: CompletionServiceStub) -> None:
    error = await _fails(stub, model="nothing")
    assert (error.reason_name, error.field) == ("MODEL_NOT_FOUND", "model")


async def test_several_answers_are_kept_apart(stub: CompletionServiceStub, upstream: OpenAIServer) -> None:
    value = _input()
    value.parameters.n = 2
    both = [chunk({"content": "a"}, index=0), chunk({"content": "b"}, index=1), chunk({}, "stop", index=0)]
    upstream.answers = [Answer(events=[*both, chunk({}, "length", index=1), usage_chunk()])]
    events = await _ask(stub, value)
    assert [(event.delta.index, event.delta.text) for event in events if event.delta.text] == [(0, "a"), (1, "b")]
    assert upstream.received[0].body["n"] == 2
    upstream.answers = [Answer(events=both)]
    assert (await _fails(stub)).reason_name == "BACKEND_MALFORMED"


async def test_a_refusal_is_passed_on(stub: CompletionServiceStub, upstream: OpenAIServer) -> None:
    upstream.answers = [Answer(events=[chunk({"refusal": "I will not"}), chunk({}, "stop"), usage_chunk()])]
    assert "".join(event.delta.refusal for event in await _ask(stub)) == "I will not"
