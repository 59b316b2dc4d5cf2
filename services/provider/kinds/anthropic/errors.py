"""What the SDK raises, as the contract's reasons."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import anthropic
import httpx2 as httpx
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.errors import MycelError, Reason
from services.provider import guard
from services.provider.failures import Refusal, late, malformed, of_refusal, text_of, unreachable

_WORDS: Final[Mapping[str, Reason]] = {
    "authentication_error": ErrorReason.ERROR_REASON_BACKEND_AUTH,
    "permission_error": ErrorReason.ERROR_REASON_BACKEND_AUTH,
    "billing_error": ErrorReason.ERROR_REASON_QUOTA_EXHAUSTED,
    "not_found_error": ErrorReason.ERROR_REASON_BACKEND_MODEL_MISSING,
    "rate_limit_error": ErrorReason.ERROR_REASON_RATE_LIMITED,
    "request_too_large": ErrorReason.ERROR_REASON_REQUEST_TOO_LARGE,
    "overloaded_error": ErrorReason.ERROR_REASON_OVERLOADED,
    "timeout_error": ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED,
    "api_error": ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE,
}

# `invalid_request_error` stands for many things that only the message tells apart.
_MESSAGES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"credit balance|usage limits|spend limit", re.IGNORECASE), "billing_error"),
    (re.compile(r"content filtering policy", re.IGNORECASE), "content_filter"),
    (re.compile(r"(?:not supported|deprecated) (?:for|on|with|by) this model", re.IGNORECASE), "unsupported"),
)
_MEANT: Final[Mapping[str, Reason]] = {
    **_WORDS,
    "content_filter": ErrorReason.ERROR_REASON_CONTENT_FILTERED,
    "unsupported": ErrorReason.ERROR_REASON_UNSUPPORTED_FEATURE,
}
_FIELD: Final = re.compile(r"^`?([a-z_][a-z0-9_.]*)`?(?=:| is | and )")


def translate(error: Exception, provider: str) -> MycelError:  # noqa: PLR0911 - a line for each sort of failure
    """Gives the reason of a failed call.

    Args:
        error: what the SDK or its HTTP client raised.
        provider: the provider's name in the mesh.
    """
    ours = guard.cause(error)
    if ours is not None:
        return ours
    match error:
        case anthropic.APITimeoutError() if isinstance(error.__cause__, httpx.ConnectTimeout):
            return unreachable(provider, "could not be reached in time")
        case anthropic.APITimeoutError() | httpx.TimeoutException():
            return late(provider)
        case anthropic.APIStatusError():
            return of_refusal(_refusal(error), provider, _MEANT)
        case anthropic.APIResponseValidationError():
            return malformed(provider)
        case anthropic.APIConnectionError() | httpx.TransportError() | httpx.StreamError():
            return unreachable(provider)
        case _:
            return malformed(provider)


def _refusal(error: anthropic.APIStatusError) -> Refusal:
    # An error inside an answer that had begun comes with the answer's own status.
    begun = error.response.is_success
    message = text_of(error.body, "error", "message")
    code = text_of(error.body, "error", "type")
    if code == "invalid_request_error":
        code = next((word for pattern, word in _MESSAGES if pattern.search(message)), code)
    named = _FIELD.match(message)
    headers = {} if begun else error.response.headers
    return Refusal(0 if begun else error.status_code, message, code, named[1] if named else "", headers)
