"""A running provider service with one provider of each kind in turn, and its API on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.completion.v1.completion_service_pb2_grpc import CompletionServiceStub
from mycel.embedding.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.common.channels import open_channel
from services.common.config import load_config
from services.common.errors import MycelError
from services.common.status import from_rpc_error
from services.common.telemetry import Telemetry
from services.provider.serve import running_provider
from services.provider.settings import ProviderSettings
from tests.fakes.wire_server import WireServer, wire_server
from tests.integration.provider.dialects import ALL, CANARY, Dialect


@dataclass
class Mesh:
    """The service with one model, `m`, and what stands behind it."""

    dialect: Dialect
    server: WireServer
    stub: CompletionServiceStub
    embeddings: EmbeddingServiceStub
    spans: InMemorySpanExporter

    async def ask(self, value: chat.ChatInput | None = None) -> list[completion.StreamCompletionResponse]:
        request = completion.StreamCompletionRequest(model="m", input=value or question())
        return [event async for event in self.stub.StreamCompletion(request, timeout=30)]

    async def fail(self, value: chat.ChatInput | None = None) -> MycelError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.ask(value)
        return from_rpc_error(caught.value, "provider")

    async def models(self) -> completion.ListModelsResponse:
        return await self.stub.ListModels(completion.ListModelsRequest(), timeout=10)


def question(text: str = "hello") -> chat.ChatInput:
    """Gives an input of one message."""
    return chat.ChatInput(messages=[chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text=text)])])


def texts(events: list[completion.StreamCompletionResponse]) -> str:
    """Gives an answer's text."""
    return "".join(event.delta.text for event in events)


def finish(events: list[completion.StreamCompletionResponse]) -> str:
    """Gives why an answer ended."""
    reasons = [event.delta.finish_reason for event in events if event.delta.finish_reason]
    assert len(reasons) == 1
    return chat.FinishReason.Name(reasons[0]).removeprefix("FINISH_REASON_")


@pytest.fixture(params=ALL, ids=repr)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    found: Dialect = request.param
    return found


@pytest.fixture
async def mesh(dialect: Dialect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mesh]:
    monkeypatch.setenv("TEST_KEY", CANARY)
    for variable in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OLLAMA_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.setenv(variable, "of-someone-else")
    spans = InMemorySpanExporter()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    async with wire_server(dialect.say("hello", " world", finish=dialect.finishes["stop"])) as server:
        path = tmp_path / "mesh.yaml"
        path.write_text(
            f"providers: {{p: {dialect.settings(server.url)}}}\n"
            f"models: {{m: {{provider: p, model: '{dialect.upstream}'}}}}\n"
            "routes: {auto: {low: [m]}}\n"
        )
        settings = ProviderSettings("127.0.0.1:0", load_config(path).mesh)
        async with (
            running_provider(settings, Telemetry(tracing, enabled=True)) as running,
            open_channel(running.address, Telemetry.disabled()) as channel,
        ):
            yield Mesh(dialect, server, CompletionServiceStub(channel), EmbeddingServiceStub(channel), spans)
    tracing.shutdown()
