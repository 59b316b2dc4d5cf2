"""The OTLP receiver, with the real exporter over gRPC and with HTTP as Triton and others speak it."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from services.mesh.http_server import MAX_BODY_BYTES
from services.mesh.otlp.forward import CollectorSettings
from services.mesh.otlp.receiver import OtlpReceiver, otlp_receiver
from services.mesh.otlp.store import TraceStore
from tests.unit.mesh.test_otlp_json import TRACE_ID, export


@asynccontextmanager
async def receiving(collector: CollectorSettings | None = None) -> AsyncIterator[OtlpReceiver]:
    async with otlp_receiver(TraceStore(), collector) as receiver:
        yield receiver


def protobuf(trace_id: str = TRACE_ID, spans: int = 1) -> bytes:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number in range(spans):
        scope.spans.add(trace_id=bytes.fromhex(trace_id), span_id=number.to_bytes(8, "big"), name="step")
    return request.SerializeToString()


async def post(receiver: OtlpReceiver, body: bytes, content_type: str, **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=f"http://{receiver.http}", trust_env=False) as client:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await client.post("/v1/traces", content=body, headers={"content-type": content_type, **named})


def export_two_spans(endpoint: str) -> str:
    """Sends a parent and a child by OpenTelemetry's own exporter; gives the trace's id."""
    provider = TracerProvider(resource=Resource.create({"service.name": "client"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=True, timeout=5)))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("outer") as outer, tracer.start_as_current_span("inner"):
        trace_id = f"{outer.get_span_context().trace_id:032x}"
    provider.shutdown()
    return trace_id


async def test_the_real_exporter_over_grpc() -> None:
    async with receiving() as receiver:
        trace_id = await asyncio.to_thread(export_two_spans, receiver.grpc)
        outer, inner = receiver.store.get(trace_id)
    assert (outer.name, outer.service, outer.parent_id) == ("outer", "client", "")
    assert (inner.name, inner.parent_id) == ("inner", outer.span_id)


async def test_json_over_http_as_triton_sends_it() -> None:
    async with receiving() as receiver:
        answer = await post(receiver, export(), "application/json; charset=utf-8")
        assert (answer.status_code, answer.json()) == (200, {})
        assert [span.name for span in receiver.store.get(TRACE_ID)] == ["InferRequest"]


@pytest.mark.parametrize("compressed", [False, True])
async def test_protobuf_over_http(compressed: bool) -> None:
    async with receiving() as receiver:
        body, headers = (gzip.compress(protobuf()), {"content_encoding": "gzip"}) if compressed else (protobuf(), {})
        answer = await post(receiver, body, "application/x-protobuf", **headers)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-protobuf")
        assert len(receiver.store.get(TRACE_ID)) == 1


@pytest.mark.parametrize(
    ("body", "content_type", "headers", "status"),
    [
        (b"{", "application/json", {}, 400),
        (b"\xff\xff\xff", "application/x-protobuf", {}, 400),
        (b"not gzip", "application/x-protobuf", {"content_encoding": "gzip"}, 400),
        (b"", "text/plain", {}, 415),
        (b"", "application/json", {"content_encoding": "br"}, 415),
        (b"x" * (MAX_BODY_BYTES + 1), "application/json", {}, 413),
        (gzip.compress(b"x" * (MAX_BODY_BYTES + 1)), "application/json", {"content_encoding": "gzip"}, 413),
    ],
)
async def test_what_is_no_export_is_refused_and_the_next_is_taken(
    body: bytes, content_type: str, headers: dict[str, str], status: int
) -> None:
    async with receiving() as receiver:
        assert (await post(receiver, body, content_type, **headers)).status_code == status
        assert (await post(receiver, export(), "application/json")).status_code == 200


async def test_another_path_or_method_is_refused() -> None:
    async with receiving() as receiver, httpx2.AsyncClient(base_url=f"http://{receiver.http}") as client:
        assert (await client.get("/v1/traces")).status_code == 405
        assert (await client.post("/v1/logs", content=b"")).status_code == 404


async def test_what_is_not_http_does_not_stop_the_server() -> None:
    async with receiving() as receiver:
        host, _, port = receiver.http.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"\x16\x03\x01 this is TLS, say\r\n\r\n")
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()
        assert (await post(receiver, export(), "application/json")).status_code == 200


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_traces_are_passed_on(protocol: str) -> None:
    async with receiving() as collector:
        address = collector.grpc if protocol == "grpc" else f"{collector.http}/v1/traces"
        async with receiving(settings(f"http://{address}", protocol)) as receiver:
            assert (await post(receiver, export(), "application/json")).status_code == 200
        # The receiver has sent what it had before it ended.
        assert [span.name for span in collector.store.get(TRACE_ID)] == ["InferRequest"]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_a_dead_collector_costs_nothing_but_its_copy(protocol: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # accepts, and never answers
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with receiving(settings(address, protocol)) as receiver:
            for number in range(600):  # more than the queue holds
                assert (await post(receiver, protobuf(f"{number + 1:032x}"), "application/x-protobuf")).is_success
            assert len(receiver.store) == 600


def settings(endpoint: str, protocol: str) -> CollectorSettings:
    return CollectorSettings(endpoint, protocol, (("x-key", "canary"),), None, timeout=2.0)
