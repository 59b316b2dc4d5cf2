"""The project's one error type, and the one table of what each reason means.

Domain code raises `MycelError`; the server's interceptor turns it into a google.rpc.Status (see `status.py`). Nothing
here imports grpc: codes are the canonical ones of google.rpc.Code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from google.rpc import code_pb2
from mycel.error.v1.error_reason_pb2 import ErrorReason

Reason: TypeAlias = ErrorReason.ValueType
"""A value of the contract's ErrorReason."""

DOMAIN: Final = "mycel"
"""`google.rpc.ErrorInfo.domain` of every error."""

_PREFIX: Final = "ERROR_REASON_"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reason means to a caller and to the router."""

    code: int
    """The canonical gRPC code (google.rpc.Code)."""
    failover: bool = False
    """Whether another model may succeed, so the router moves on to the next candidate."""
    provider_fault: bool = False
    """Whether it tells something of the provider's health, so that its breaker counts it."""
    wire_type: str = "api_error"
    """The `type` that OpenAI's JSON gives errors of this sort."""
    wire_code: str = ""
    """The `code` that OpenAI's JSON gives them; empty when it is the reason in lower case."""


_INVALID = "invalid_request_error"

MEANINGS: Final[Mapping[Reason, Meaning]] = {
    ErrorReason.ERROR_REASON_INVALID_ARGUMENT: Meaning(code_pb2.INVALID_ARGUMENT, wire_type=_INVALID),
    ErrorReason.ERROR_REASON_INVALID_JSON: Meaning(code_pb2.INVALID_ARGUMENT, wire_type=_INVALID),
    ErrorReason.ERROR_REASON_MODEL_NOT_FOUND: Meaning(code_pb2.NOT_FOUND, wire_type=_INVALID),
    ErrorReason.ERROR_REASON_UNAUTHENTICATED: Meaning(
        code_pb2.UNAUTHENTICATED, wire_type="authentication_error", wire_code="invalid_api_key"
    ),
    ErrorReason.ERROR_REASON_PERMISSION_DENIED: Meaning(code_pb2.PERMISSION_DENIED, wire_type="permission_error"),
    ErrorReason.ERROR_REASON_UNSUPPORTED_FEATURE: Meaning(code_pb2.INVALID_ARGUMENT, failover=True, wire_type=_INVALID),
    ErrorReason.ERROR_REASON_CONTEXT_TOO_LONG: Meaning(
        code_pb2.INVALID_ARGUMENT, failover=True, wire_type=_INVALID, wire_code="context_length_exceeded"
    ),
    ErrorReason.ERROR_REASON_REQUEST_TOO_LARGE: Meaning(code_pb2.RESOURCE_EXHAUSTED, wire_type=_INVALID),
    ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED: Meaning(code_pb2.DEADLINE_EXCEEDED, failover=True, provider_fault=True),
    ErrorReason.ERROR_REASON_CANCELLED: Meaning(code_pb2.CANCELLED),
    ErrorReason.ERROR_REASON_RATE_LIMITED: Meaning(
        code_pb2.RESOURCE_EXHAUSTED,
        failover=True,
        provider_fault=True,
        wire_type="rate_limit_error",
        wire_code="rate_limit_exceeded",
    ),
    ErrorReason.ERROR_REASON_QUOTA_EXHAUSTED: Meaning(
        code_pb2.RESOURCE_EXHAUSTED,
        failover=True,
        provider_fault=True,
        wire_type="insufficient_quota",
        wire_code="insufficient_quota",
    ),
    ErrorReason.ERROR_REASON_OVERLOADED: Meaning(code_pb2.RESOURCE_EXHAUSTED, failover=True, provider_fault=True),
    ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE: Meaning(code_pb2.UNAVAILABLE, failover=True, provider_fault=True),
    ErrorReason.ERROR_REASON_BACKEND_MALFORMED: Meaning(code_pb2.UNAVAILABLE, failover=True, provider_fault=True),
    ErrorReason.ERROR_REASON_BACKEND_AUTH: Meaning(code_pb2.UNAVAILABLE, failover=True, provider_fault=True),
    ErrorReason.ERROR_REASON_BACKEND_MODEL_MISSING: Meaning(code_pb2.UNAVAILABLE, failover=True),
    ErrorReason.ERROR_REASON_PROVIDER_OFF: Meaning(code_pb2.UNAVAILABLE, failover=True),
    ErrorReason.ERROR_REASON_CONTENT_FILTERED: Meaning(
        code_pb2.INVALID_ARGUMENT, wire_type=_INVALID, wire_code="content_filter"
    ),
    ErrorReason.ERROR_REASON_NO_CANDIDATE: Meaning(code_pb2.UNAVAILABLE),
    ErrorReason.ERROR_REASON_ENTRY_NOT_FOUND: Meaning(code_pb2.NOT_FOUND, wire_type=_INVALID),
    ErrorReason.ERROR_REASON_STORE_UNAVAILABLE: Meaning(code_pb2.UNAVAILABLE),
    ErrorReason.ERROR_REASON_INTERNAL: Meaning(code_pb2.INTERNAL, failover=True, provider_fault=True),
}
"""Every reason but UNSPECIFIED; a test holds the table and the enum in step."""


class MycelError(Exception):
    """An error that a caller is told about.

    The message is for a person and goes to the caller: no secrets, no prompt text.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        field: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Makes an error.

        Args:
            reason: why, from the contract's enum.
            message: what happened, for a person.
            field: the full path of the refused field, such as `messages[0].role`; empty when there is none.
            metadata: further facts, for ErrorInfo.
            retry_after: seconds after which a retry may succeed; None when that is not known.
        """
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field = field
        self.metadata = {**(metadata or {}), **({"field": field} if field else {})}
        self.retry_after = retry_after

    @property
    def reason_name(self) -> str:
        """The reason as ErrorInfo carries it, without the enum's prefix."""
        return reason_name(self.reason)

    @property
    def wire_code(self) -> str:
        """The error's `code` in OpenAI's JSON."""
        return self.meaning.wire_code or self.reason_name.lower()

    @property
    def meaning(self) -> Meaning:
        """The reason's row in the table."""
        return MEANINGS[self.reason]


def reason_name(reason: Reason) -> str:
    """Gives a reason's name as ErrorInfo carries it: without the enum's prefix."""
    return ErrorReason.Name(reason).removeprefix(_PREFIX)


def reason_of_name(name: str) -> Reason | None:
    """Gives the reason of that name (without prefix), or None when the contract has none."""
    try:
        return ErrorReason.Value(_PREFIX + name)
    except ValueError:
        return None


def invalid(field: str, message: str) -> MycelError:
    """Refuses a field's value."""
    return MycelError(ErrorReason.ERROR_REASON_INVALID_ARGUMENT, f"{field}: {message}", field=field)


def internal(message: str = "internal error") -> MycelError:
    """Reports a defect; the caller learns nothing more."""
    return MycelError(ErrorReason.ERROR_REASON_INTERNAL, message)
