"""What the SDK raises, as the contract's reasons. No message repeats what was sent: it could hold a key or a prompt."""

from __future__ import annotations

import re
from typing import Final

import httpx2 as httpx
import openai
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.errors import MycelError, Reason

_OVERLOADED: Final = frozenset({503, 529})
_QUOTA_CODES: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_SECRET: Final = re.compile(r"\b(?:sk|key)-[A-Za-z0-9_*-]+")
_MESSAGE_CHARACTERS: Final = 300


def translate(error: Exception, provider: str) -> MycelError:
    """Gives the reason of a failed call.

    Args:
        error: what the SDK or its HTTP client raised.
        provider: the provider's name in the mesh.
    """
    match error:
        case openai.APITimeoutError() | httpx.TimeoutException():
            return _error(ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED, provider, "did not answer in time")
        case openai.APIStatusError():
            return _of_status(error, provider)
        case openai.APIResponseValidationError():
            return _error(ErrorReason.ERROR_REASON_BACKEND_MALFORMED, provider, "its answer was not understood")
        case openai.APIConnectionError() | httpx.TransportError() | httpx.StreamError():
            return _error(ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE, provider, "could not be reached, or broke off")
        case openai.APIError():
            return _error(ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE, provider, _told(error))
        case _:
            return _error(ErrorReason.ERROR_REASON_BACKEND_MALFORMED, provider, "its answer was not understood")


def _of_status(error: openai.APIStatusError, provider: str) -> MycelError:
    retry_after = _retry_after(error.response.headers)
    told = _told(error)
    match error:
        case openai.RateLimitError():
            spent = error.code in _QUOTA_CODES
            reason = ErrorReason.ERROR_REASON_QUOTA_EXHAUSTED if spent else ErrorReason.ERROR_REASON_RATE_LIMITED
            return _error(reason, provider, told, retry_after=retry_after)
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            # The provider's own words may repeat a part of the key.
            return _error(ErrorReason.ERROR_REASON_BACKEND_AUTH, provider, "refused the configured key")
        case openai.NotFoundError():
            return _error(ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE, provider, f"has no such model: {told}")
        case openai.BadRequestError() | openai.UnprocessableEntityError() | openai.ConflictError():
            return _of_bad_request(error, provider, told)
        case _ if error.status_code in _OVERLOADED:
            return _error(ErrorReason.ERROR_REASON_OVERLOADED, provider, told, retry_after=retry_after)
        case _:
            return _error(ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE, provider, f"answered {error.status_code}")


def _of_bad_request(error: openai.APIStatusError, provider: str, told: str) -> MycelError:
    match error.code:
        case "context_length_exceeded":
            return _error(ErrorReason.ERROR_REASON_CONTEXT_TOO_LONG, provider, told, field="messages")
        case "content_filter" | "content_policy_violation":
            return _error(ErrorReason.ERROR_REASON_CONTENT_FILTERED, provider, told, field="messages")
        case _:
            field = error.param or "messages"
            return _error(ErrorReason.ERROR_REASON_INVALID_ARGUMENT, provider, told, field=field)


def _error(
    reason: Reason, provider: str, told: str, *, field: str = "", retry_after: float | None = None
) -> MycelError:
    return MycelError(
        reason, f"{provider}: {told}", field=field, metadata={"provider": provider}, retry_after=retry_after
    )


def _told(error: openai.APIError) -> str:
    """Gives the provider's message, without what looks like a key, and not at any length."""
    text = " ".join(_SECRET.sub("[key]", error.message).split())
    return text[:_MESSAGE_CHARACTERS] or "gave no message"


def _retry_after(headers: httpx.Headers) -> float | None:
    """Reads `retry-after-ms`, or `retry-after` in seconds."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            return max(float(headers[name]) * scale, 0.0)
        except (KeyError, ValueError):
            continue
    return None
