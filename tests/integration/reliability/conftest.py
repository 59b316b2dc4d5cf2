"""The router and the provider adapter, both real, before one bad provider of each kind in turn and a good one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from mycel.chat.v1 import chat_service_pb2 as chat_service
from mycel.chat.v1 import types_pb2 as chat
from mycel.chat.v1.chat_service_pb2_grpc import ChatServiceStub
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
from services.router.serve import running_router
from services.router.settings import RouterSettings
from tests.fakes import ollama_wire
from tests.fakes.wire_server import Reply, WireServer, wire_server
from tests.integration.provider.dialects import ALL, CANARY, Dialect

METADATA = (("authorization", "Bearer mycel-dev"), ("x-mycel-cache", "off"))
_MESH = """
providers:
  bad: {bad}
  good: {{kind: ollama, base_url: '{good}'}}
models:
  bad: {{provider: bad, model: '{upstream}'}}
  good: {{provider: good, model: llama3.2}}
routes: {{auto: {{low: [bad, good], medium: [bad, good], high: [bad, good]}}}}
reliability: {{retry: {{rounds: 0}}, breaker: {{failures: 1000}}}}
"""


@dataclass
class Pair:
    """A bad provider, a good one behind it, and the services in front of both."""

    dialect: Dialect
    bad: WireServer
    good: WireServer
    chat: ChatServiceStub
    spans: InMemorySpanExporter

    async def ask(self, model: str = "auto", value: chat.ChatInput | None = None) -> chat_service.ChatResponse:
        request = chat_service.ChatRequest(model=model, input=value or question("hello"))
        answer: chat_service.ChatResponse = await self.chat.Chat(request, metadata=METADATA, timeout=30)
        return answer

    async def fail(self, reply: Reply, text: str = "hello") -> MycelError:
        """Asks the bad provider alone."""
        self.bad.replies = [reply]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.ask("bad", question(text))
        return from_rpc_error(caught.value, "router")


def question(text: str) -> chat.ChatInput:
    """Gives an input of one message."""
    return chat.ChatInput(messages=[chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text=text)])])


def text_of(answer: chat_service.ChatResponse) -> str:
    """Gives an answer's text."""
    return "".join(part.text for part in answer.choices[0].message.content)


@pytest.fixture(params=ALL, ids=repr)
async def pair(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    dialect: Dialect = request.param
    monkeypatch.setenv("TEST_KEY", CANARY)
    monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
    spans = InMemorySpanExporter()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    telemetry = Telemetry(tracing, enabled=True)
    async with wire_server() as bad, wire_server(ollama_wire.say("the good one")) as good:
        path = tmp_path / "mesh.yaml"
        path.write_text(_MESH.format(bad=dialect.settings(bad.url), good=good.url, upstream=dialect.upstream))
        config = load_config(path).mesh
        async with running_provider(ProviderSettings("127.0.0.1:0", config), telemetry) as provider:
            settings = RouterSettings(
                listen="127.0.0.1:0",
                mesh=provider.address,
                config=config,
                development_key=True,
                cache_seconds=1,
                call_seconds=60,
            )
            async with (
                running_router(settings, telemetry) as router,
                open_channel(router.address, Telemetry.disabled()) as channel,
            ):
                yield Pair(dialect, bad, good, ChatServiceStub(channel), spans)
    tracing.shutdown()
