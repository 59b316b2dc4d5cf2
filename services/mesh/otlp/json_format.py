"""OTLP's JSON form, which is protobuf's but for ids: they are hexadecimal, not base64."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from google.protobuf.json_format import ParseDict, ParseError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_IDS: Final = {"traceId": 16, "spanId": 8, "parentSpanId": 8}
"""The fields that hold ids, and their bytes."""


class OtlpJsonError(ValueError):
    """The text is not an export request; the message says what is wrong with it."""


def parse_export(text: bytes) -> ExportTraceServiceRequest:
    """Reads an ExportTraceServiceRequest from OTLP's JSON. Unknown fields are passed over, as the standard says.

    Raises:
        OtlpJsonError: it is not JSON, not an export request, or an id is not hexadecimal.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OtlpJsonError(f"not JSON: {error}") from error
    if not isinstance(values, dict):
        raise OtlpJsonError("an object with `resourceSpans` is needed")
    for span in _spans(values):
        _decode_ids(span)
        for link in _list(span.get("links")):
            _decode_ids(link)
    try:
        return ParseDict(values, ExportTraceServiceRequest(), ignore_unknown_fields=True)
    except (ParseError, RecursionError) as error:
        raise OtlpJsonError(" ".join(str(error).split())) from error


def _spans(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        span
        for group in _list(values.get("resourceSpans"))
        for scope in _list(group.get("scopeSpans"))
        for span in _list(scope.get("spans"))
    ]


def _list(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _decode_ids(holder: dict[str, Any]) -> None:
    for name, length in _IDS.items():
        text = holder.get(name)
        if text is None or text == "":
            continue
        try:
            raw = bytes.fromhex(text)
        except (TypeError, ValueError):
            raise OtlpJsonError(f"{name}: {text!r} is not hexadecimal") from None
        if len(raw) != length:
            raise OtlpJsonError(f"{name}: {text!r} has not {2 * length} digits")
        holder[name] = base64.b64encode(raw).decode("ascii")
