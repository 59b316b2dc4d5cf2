"""Spans that Envoy sends over OTLP: they join the caller's trace, and the service's spans hang below them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from services.common.server import Service, running_server
from services.common.telemetry import Telemetry
from services.mesh.envoy import HostPort
from tests.integration.envoy.door import json_body, running_envoy


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span that comes, with the name of the service that sent it."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        self._changed = asyncio.Condition()

    async def Export(self, request, context):
        for resource in request.resource_spans:
            names = [item.value.string_value for item in resource.resource.attributes if item.key == "service.name"]
            self.spans += [(names[0], span) for scope in resource.scope_spans for span in scope.spans]
        async with self._changed:
            self._changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    async def of_trace(self, trace_id: str, count: int) -> list[tuple[str, Span]]:
        """Waits until a trace has so many spans."""

        def found() -> list[tuple[str, Span]]:
            return [item for item in self.spans if item[1].trace_id.hex() == trace_id]

        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: len(found()) >= count)
        return found()


@asynccontextmanager
async def receiving() -> AsyncIterator[tuple[Receiver, HostPort]]:
    receiver = Receiver()
    add = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    service = Service("opentelemetry.TraceService", lambda server: add(receiver, server))
    async with running_server("127.0.0.1:0", [service], Telemetry.disabled(), grace=0) as server:
        yield receiver, HostPort.parse(server.address)


async def test_ingress_joins_the_callers_trace() -> None:
    seen: dict[str, str] = {}

    async def models(name, context):
        seen.update(context.invocation_metadata())
        return json_body("{}")

    trace_id, caller = secrets.token_hex(16), secrets.token_hex(8)
    async with receiving() as (receiver, address), running_envoy(address) as door:
        door.script.models = models
        async with door.serve("router", door.router()), door.http() as client:
            answer = await client.get("/v1/models", headers={"traceparent": f"00-{trace_id}-{caller}-01"})
            spans = await receiver.of_trace(trace_id, 2)
    assert {service for service, _ in spans} == {"envoy-ingress"}
    by_kind = {span.kind: span for _, span in spans}
    server, client_span = by_kind[Span.SPAN_KIND_SERVER], by_kind[Span.SPAN_KIND_CLIENT]
    assert server.parent_span_id.hex() == caller
    assert client_span.parent_span_id == server.span_id
    assert seen["traceparent"].split("-")[1:3] == [trace_id, client_span.span_id.hex()]
    assert answer.headers["x-mycel-trace-id"] == trace_id


async def test_ingress_starts_a_trace_and_names_it_even_when_the_router_is_down() -> None:
    async with receiving() as (receiver, address), running_envoy(address) as door, door.http() as client:
        answer = await client.get("/v1/models")
        spans = await receiver.of_trace(answer.headers["x-mycel-trace-id"], 1)
    assert answer.status_code == 503
    assert Span.SPAN_KIND_SERVER in {span.kind for _, span in spans}


async def test_a_collector_that_is_gone_costs_no_call_anything() -> None:
    nowhere = HostPort("127.0.0.1", 9)
    async with running_envoy(nowhere) as door, door.serve("router", door.router()), door.http() as client:
        for _ in range(20):
            assert (await client.get("/v1/models")).status_code == 200


async def test_health_is_not_traced() -> None:
    async with (
        receiving() as (receiver, address),
        running_envoy(address) as door,
        # Serving waits for health through the ingress: many calls that must leave no span.
        door.serve("router", door.router()),
        door.http() as client,
    ):
        await client.get("/livez")
        answer = await client.get("/v1/models")
        await receiver.of_trace(answer.headers["x-mycel-trace-id"], 2)
    assert {span.trace_id.hex() for _, span in receiver.spans} == {answer.headers["x-mycel-trace-id"]}
