"""OpenTelemetry for a service: the tracer provider, and the interceptors that join calls to traces.

The standard OTEL_* variables apply as they are. Without OTEL_EXPORTER_OTLP_ENDPOINT (or its traces form) nothing is
recorded and the interceptors are left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import (
    aio_client_interceptors,
    aio_server_interceptor,
    filters,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

UNSAMPLED: Final = (("traceparent", "00-00000000000000000000000000000001-0000000000000001-00"),)
"""Metadata of a call that is housekeeping: nobody on its way records a span."""

_UNTRACED = filters.any_of(filters.health_check(), filters.service_prefix("grpc.reflection.v1alpha.ServerReflection"))


@dataclass(frozen=True, slots=True)
class Telemetry:
    """A process's tracing. `disabled()` gives one that records nothing."""

    provider: trace.TracerProvider
    enabled: bool

    @classmethod
    def disabled(cls) -> Telemetry:
        return cls(trace.NoOpTracerProvider(), enabled=False)

    def tracer(self) -> trace.Tracer:
        """Gives the tracer for spans of Mycel's own."""
        return self.provider.get_tracer("mycel")

    def server_interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        """Gives the interceptor that joins incoming calls to their trace; health checks are left out."""
        if not self.enabled:
            return []
        return [aio_server_interceptor(self.provider, filter_=filters.negate(_UNTRACED))]  # type: ignore[no-untyped-call]

    def client_interceptors(self) -> list[Any]:
        """Gives the interceptors that carry the trace on outgoing calls; health checks are left out."""
        if not self.enabled:
            return []
        return list(aio_client_interceptors(self.provider, filter_=filters.negate(_UNTRACED)))  # type: ignore[no-untyped-call]


@contextmanager
def telemetry(service: str) -> Iterator[Telemetry]:
    """Sets tracing up for the process, and sends what is left when it ends.

    Args:
        service: `service.name` of every span; OTEL_SERVICE_NAME overrides it.
    """
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not endpoint or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield Telemetry.disabled()
        return
    name = os.environ.get("OTEL_SERVICE_NAME", service)
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    # A collector that is slow or gone must cost no call anything: the processor's queue is bounded and drops.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=2)))
    try:
        yield Telemetry(provider, enabled=True)
    finally:
        provider.shutdown()


def current_trace_id() -> str:
    """Gives the current trace's id as 32 hexadecimal digits, or nothing when there is no trace."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""
