"""A span as `mycel up` keeps it, and how it is read from OTLP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2

Value: TypeAlias = str | bool | int | float

_MAX_ATTRIBUTES: Final = 64
_MAX_TEXT: Final = 512
"""The longest name or attribute that is kept, in characters: the store is bounded, whatever is sent."""

_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8
_KINDS: Final = {
    trace_pb2.Span.SPAN_KIND_INTERNAL: "internal",
    trace_pb2.Span.SPAN_KIND_SERVER: "server",
    trace_pb2.Span.SPAN_KIND_CLIENT: "client",
    trace_pb2.Span.SPAN_KIND_PRODUCER: "producer",
    trace_pb2.Span.SPAN_KIND_CONSUMER: "consumer",
}


@dataclass(frozen=True, slots=True)
class Span:
    """One step of a call."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    parent_id: str
    """16 hexadecimal digits; empty for a root."""
    service: str
    """`service.name` of the process."""
    name: str
    kind: str
    """`internal`, `server`, `client`, `producer` or `consumer`."""
    start_ns: int
    """Nanoseconds since 1970."""
    end_ns: int
    attributes: Mapping[str, Value]
    error: str = ""
    """What went wrong: the status' message, or `error` when it has none; empty for a span that ended well."""

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory."""
        texts = len(self.name) + len(self.service) + len(self.error)
        return 700 + texts + sum(120 + len(key) + len(str(value)) for key, value in self.attributes.items())


def read_spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    """Reads the spans of an export; those whose ids are not ids are passed over."""
    for group in request.resource_spans:
        service = _service_name(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                if len(span.trace_id) == _TRACE_ID_BYTES and len(span.span_id) == _SPAN_ID_BYTES:
                    yield _read(span, service)


def _read(span: trace_pb2.Span, service: str) -> Span:
    parent = bytes(span.parent_span_id)
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=parent.hex() if len(parent) == _SPAN_ID_BYTES and any(parent) else "",
        service=service,
        name=span.name[:_MAX_TEXT],
        kind=_KINDS.get(span.kind, "internal"),
        start_ns=span.start_time_unix_nano,
        end_ns=max(span.end_time_unix_nano, span.start_time_unix_nano),
        attributes={pair.key[:_MAX_TEXT]: _value(pair.value) for pair in span.attributes[:_MAX_ATTRIBUTES]},
        error=_error(span.status),
    )


def _error(status: trace_pb2.Status) -> str:
    if status.code != trace_pb2.Status.STATUS_CODE_ERROR:
        return ""
    return status.message[:_MAX_TEXT] or "error"


def _service_name(attributes: object) -> str:
    for pair in attributes:  # type: ignore[attr-defined]  # a repeated KeyValue, which has no type of its own
        if pair.key == "service.name":
            return str(_value(pair.value))
    return "unknown"


def _value(value: AnyValue) -> Value:
    kind = value.WhichOneof("value")
    if kind in ("bool_value", "int_value", "double_value"):
        plain: Value = getattr(value, kind)
        return plain
    if kind == "string_value":
        return value.string_value[:_MAX_TEXT]
    if kind == "array_value":
        return ", ".join(str(_value(item)) for item in value.array_value.values[:_MAX_ATTRIBUTES])[:_MAX_TEXT]
    return str(value).strip()[:_MAX_TEXT]
