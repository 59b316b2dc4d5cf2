"""The adapters against a mock of the four APIs that was written by others."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.completion.v1.completion_service_pb2_grpc import CompletionServiceStub
from mycel.embedding.v1 import embedding_service_pb2 as embedding
from mycel.embedding.v1.embedding_service_pb2_grpc import EmbeddingServiceStub

from services.common.channels import open_channel
from services.common.config import load_config
from services.common.errors import MycelError
from services.common.status import from_rpc_error
from services.common.telemetry import Telemetry
from services.provider.serve import running_provider
from services.provider.settings import ProviderSettings
from tests.fakes.aimock import aimock
from tests.integration.provider.conftest import finish, question, texts

TEXT = "Hyphae carry water, sugar and news. 🍄 Größe: 3 µm."
FIXTURES = [
    {"match": {"userMessage": "text"}, "response": {"content": TEXT}},
    {"match": {"userMessage": "short"}, "response": {"content": "cut", "finishReason": "length"}},
    {"match": {"userMessage": "filter"}, "response": {"content": "no", "finishReason": "content_filter"}},
    {
        "match": {"userMessage": "calls"},
        "response": {
            "toolCalls": [
                {"id": "call_a", "name": "weather", "arguments": '{"city": "Łódź"}'},
                {"id": "call_b", "name": "time", "arguments": '{"zone": "CET"}'},
            ]
        },
    },
    {
        "match": {"userMessage": "count"},
        "response": {"content": "one", "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}},
    },
    {
        "match": {"userMessage": "slow"},
        "response": {"error": {"message": "slow", "type": "x"}, "status": 429, "retryAfter": 9},
    },
    {"match": {"userMessage": "down"}, "response": {"error": {"message": "down", "type": "x"}, "status": 500}},
    {"match": {"userMessage": "busy"}, "response": {"error": {"message": "busy", "type": "x"}, "status": 503}},
    {"match": {"userMessage": "key"}, "response": {"error": {"message": "bad key", "type": "x"}, "status": 401}},
    {"match": {"userMessage": "dies"}, "response": {"content": TEXT}, "truncateAfterChunks": 4},
    {"match": {"inputText": "mushroom"}, "response": {"embedding": [3.0, 4.0, 0.0]}},
]
KINDS = {
    "openai": "kind: openai, base_url: '{}/v1', api_key_env: TEST_KEY",
    "azure_openai": "kind: azure_openai, endpoint: '{}', api_key_env: TEST_KEY",
    "anthropic": "kind: anthropic, base_url: '{}', api_key_env: TEST_KEY",
    "ollama": "kind: ollama, base_url: '{}'",
}
MODELS = {"openai": "gpt-4o", "azure_openai": "gpt-4o", "anthropic": "claude-haiku-4-5", "ollama": "llama3.2"}


@dataclass
class Mesh:
    """The service, and the kind that the mock plays."""

    kind: str
    stub: CompletionServiceStub
    embeddings: EmbeddingServiceStub

    async def ask(self, text: str, *tools: str) -> list[completion.StreamCompletionResponse]:
        value = question(text)
        for name in tools:
            value.tools.add(name=name, parameters_schema_json='{"type": "object", "properties": {}}')
        request = completion.StreamCompletionRequest(model="m", input=value)
        return [event async for event in self.stub.StreamCompletion(request, timeout=30)]

    async def fail(self, text: str) -> MycelError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.ask(text)
        return from_rpc_error(caught.value, "provider")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with aimock(tmp_path_factory.mktemp("aimock"), FIXTURES) as url:
        yield url


@pytest.fixture(params=sorted(KINDS))
async def mesh(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Mesh]:
    monkeypatch.setenv("TEST_KEY", "sk-anything")
    kind: str = request.param
    path = tmp_path / "mesh.yaml"
    path.write_text(
        f"providers: {{p: {{{KINDS[kind].format(address)}}}}}\n"
        f"models: {{m: {{provider: p, model: '{MODELS[kind]}'}}, e: {{provider: p, model: 'nomic-embed'}}}}\n"
        "routes: {auto: {low: [m]}}\n"
    )
    settings = ProviderSettings("127.0.0.1:0", load_config(path).mesh)
    async with (
        running_provider(settings, Telemetry.disabled()) as running,
        open_channel(running.address, Telemetry.disabled()) as channel,
    ):
        yield Mesh(kind, CompletionServiceStub(channel), EmbeddingServiceStub(channel))


async def test_text_is_streamed(mesh: Mesh) -> None:
    events = await mesh.ask("text")
    assert texts(events) == TEXT
    assert len([event for event in events if event.delta.text]) > 5
    assert finish(events) == "STOP"


async def test_the_limit_is_told(mesh: Mesh) -> None:
    # The mock's Ollama always says that it stopped.
    assert finish(await mesh.ask("short")) == ("STOP" if mesh.kind == "ollama" else "LENGTH")


async def test_parallel_calls(mesh: Mesh) -> None:
    events = await mesh.ask("calls", "weather", "time")
    assert finish(events) == "TOOL_CALLS"
    pieces = [piece for event in events for piece in event.delta.tool_calls]
    assert [(piece.index, piece.name) for piece in pieces if piece.name] == [(0, "weather"), (1, "time")]
    assert all(piece.id for piece in pieces if piece.name)
    arguments = ["".join(piece.arguments_json for piece in pieces if piece.index == index) for index in (0, 1)]
    assert [json.loads(text) for text in arguments] == [{"city": "Łódź"}, {"zone": "CET"}]


async def test_usage(mesh: Mesh) -> None:
    usage = (await mesh.ask("count"))[-1].completed.usage
    # The mock's Ollama counts nothing.
    expected = chat.Usage() if mesh.kind == "ollama" else chat.Usage(prompt_tokens=11, completion_tokens=3)
    assert usage == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [("slow", "RATE_LIMITED"), ("down", "BACKEND_UNAVAILABLE"), ("busy", "OVERLOADED"), ("key", "BACKEND_AUTH")],
)
async def test_failures(mesh: Mesh, text: str, reason: str) -> None:
    error = await mesh.fail(text)
    assert error.reason_name == reason
    if text == "slow":
        # Retry-After says nine seconds, but the mock's tokens are back in six minutes: the later counts.
        assert error.retry_after == pytest.approx(360)


async def test_an_answer_that_is_cut_off(mesh: Mesh) -> None:
    assert (await mesh.fail("dies")).reason_name in ("BACKEND_UNAVAILABLE", "BACKEND_MALFORMED")


async def test_embeddings(mesh: Mesh) -> None:
    request = embedding.EmbedRequest(model="e", texts=["mushroom", "mushroom"])
    # Anthropic embeds nothing; the mock's Ollama answers in the form of an older path of its API.
    reason = {"anthropic": "UNSUPPORTED_FEATURE", "ollama": "BACKEND_MALFORMED"}.get(mesh.kind)
    if reason is not None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mesh.embeddings.Embed(request, timeout=20)
        assert from_rpc_error(caught.value, "provider").reason_name == reason
        return
    answer = await mesh.embeddings.Embed(request, timeout=20)
    assert len(answer.embeddings) == 2
    for vector in answer.embeddings:
        assert math.hypot(*vector.values) == pytest.approx(1)
    assert answer.embedder_id == "p/nomic-embed"
