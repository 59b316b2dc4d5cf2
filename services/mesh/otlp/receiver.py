"""The OTLP receiver: gRPC for Envoy and the services, HTTP (protobuf or JSON) for Triton."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from services.common.server import Service, running_server
from services.common.telemetry import Telemetry
from services.mesh.http_server import Request, Response, http_server
from services.mesh.otlp.forward import CollectorSettings, Forwarder, running_forwarder
from services.mesh.otlp.json_format import OtlpJsonError, parse_export
from services.mesh.otlp.spans import read_spans
from services.mesh.otlp.store import TraceStore

_SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
_PROTOBUF: Final = "application/x-protobuf"
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class OtlpReceiver:
    """A receiver that listens."""

    grpc: str
    """`host:port`."""
    http: str
    """`host:port`; traces go to `/v1/traces`."""
    store: TraceStore


@asynccontextmanager
async def otlp_receiver(
    store: TraceStore, collector: CollectorSettings | None = None, *, host: str = "127.0.0.1"
) -> AsyncIterator[OtlpReceiver]:
    """Receives spans on two free ports until the block is left.

    Args:
        store: where the spans are kept.
        collector: where they are passed on to; None for nowhere.
        host: the address to listen on.
    """
    async with AsyncExitStack() as stack:
        forwarder = await stack.enter_async_context(running_forwarder(collector)) if collector else None
        intake = _Intake(store, forwarder)
        service = Service(_SERVICE, intake.add_to)
        server = await stack.enter_async_context(
            running_server(f"{host}:0", [service], Telemetry.disabled(), grace=0.5)
        )
        http = await stack.enter_async_context(http_server(f"{host}:0", intake.handle_http))
        yield OtlpReceiver(server.address, http, store)


class _Intake:
    """Takes export requests from both doors."""

    def __init__(self, store: TraceStore, forwarder: Forwarder | None) -> None:
        self._store = store
        self._forwarder = forwarder

    def take(self, request: ExportTraceServiceRequest) -> None:
        self._store.add(read_spans(request))
        if self._forwarder:
            self._forwarder.put(request)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serves TraceService. The stubs that opentelemetry-proto ships are older than grpcio and warn: not used."""
        handler = grpc.unary_unary_rpc_method_handler(
            self._export,
            request_deserializer=ExportTraceServiceRequest.FromString,
            response_serializer=ExportTraceServiceResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Export": handler}),))

    async def _export(self, request: ExportTraceServiceRequest, _context: Any) -> ExportTraceServiceResponse:
        self.take(request)
        return ExportTraceServiceResponse()

    async def handle_http(self, request: Request) -> Response:
        """Answers OTLP/HTTP, in the form that it was asked in."""
        if request.path.partition("?")[0] != "/v1/traces":
            return Response(404, b"only /v1/traces is here", "text/plain")
        if request.method != "POST":
            return Response(405, b"only POST", "text/plain")
        try:
            return self._take_http(request)
        except OtlpJsonError as error:
            return Response(400, str(error).encode(), "text/plain")
        except DecodeError:
            return Response(400, b"not an ExportTraceServiceRequest", "text/plain")

    def _take_http(self, request: Request) -> Response:
        if request.content_type == _JSON:
            self.take(parse_export(request.body))
            return Response(body=b"{}")
        if request.content_type == _PROTOBUF:
            self.take(ExportTraceServiceRequest.FromString(request.body))
            return Response(content_type=_PROTOBUF)
        return Response(415, f"send {_PROTOBUF} or {_JSON}".encode(), "text/plain")
