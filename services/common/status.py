"""Turns `MycelError` into google.rpc.Status, and what a gRPC call raised back into `MycelError`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.errors import DOMAIN, MycelError, Reason, reason_of_name

DETAILS_KEY: Final = "grpc-status-details-bin"
"""The trailing metadata that carries the serialized google.rpc.Status."""

_REASON_OF_CODE: Final[Mapping[int, Reason]] = {
    code_pb2.INVALID_ARGUMENT: ErrorReason.ERROR_REASON_INVALID_ARGUMENT,
    code_pb2.CANCELLED: ErrorReason.ERROR_REASON_CANCELLED,
    code_pb2.DEADLINE_EXCEEDED: ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED,
    code_pb2.UNAUTHENTICATED: ErrorReason.ERROR_REASON_UNAUTHENTICATED,
    code_pb2.PERMISSION_DENIED: ErrorReason.ERROR_REASON_PERMISSION_DENIED,
    code_pb2.RESOURCE_EXHAUSTED: ErrorReason.ERROR_REASON_OVERLOADED,
    code_pb2.UNAVAILABLE: ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE,
}


def to_status(error: MycelError) -> status_pb2.Status:
    """Builds the status that a caller sees: ErrorInfo always, RetryInfo when a time is known."""
    status = status_pb2.Status(code=error.meaning.code, message=error.message)
    # For the door, which gives errors OpenAI's shape over HTTP.
    wire = {"type": error.meaning.wire_type, "openai_code": error.wire_code}
    metadata = {**error.metadata, **wire}
    info = error_details_pb2.ErrorInfo(reason=error.reason_name, domain=DOMAIN, metadata=metadata)
    status.details.add().Pack(info)
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo(retry_delay=_duration(error.retry_after))
        status.details.add().Pack(retry)
    return status


def from_rpc_error(error: grpc.aio.AioRpcError, hop: str) -> MycelError:
    """Reads the error that a call to `hop` raised.

    A status without our ErrorInfo (the transport's own, or Envoy's) is mapped by its code.
    """
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            found = _from_details(value)
            if found is not None:
                return found
    code = int(error.code().value[0])
    reason = _REASON_OF_CODE.get(code, ErrorReason.ERROR_REASON_INTERNAL)
    return MycelError(reason, f"{hop}: {error.details() or error.code().name}", metadata={"hop": hop})


def _from_details(value: bytes) -> MycelError | None:
    try:
        status = status_pb2.Status.FromString(value)
    except DecodeError:
        return None
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    retry_after: float | None = None
    reason: Reason | None = None
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN:
            reason = reason_of_name(info.reason)
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    if reason is None:
        return None
    metadata = {key: text for key, text in info.metadata.items() if key not in ("field", "type", "openai_code")}
    field = info.metadata.get("field", "")
    return MycelError(reason, status.message, field=field, metadata=metadata, retry_after=retry_after)


def _duration(seconds: float) -> Duration:
    bounded = min(max(seconds, 0.0), 86_400.0) if math.isfinite(seconds) else 0.0
    return Duration(seconds=int(bounded), nanos=round((bounded % 1) * 1e9) % 1_000_000_000)
