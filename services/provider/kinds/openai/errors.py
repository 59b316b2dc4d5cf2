"""What the SDK raises, as the contract's reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import httpx2 as httpx
import openai
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.errors import MycelError, Reason
from services.provider import guard
from services.provider.failures import Refusal, late, malformed, of_refusal, text_of, unreachable

_WORDS: Final[Mapping[str, Reason]] = {
    "insufficient_quota": ErrorReason.ERROR_REASON_QUOTA_EXHAUSTED,
    "billing_hard_limit_reached": ErrorReason.ERROR_REASON_QUOTA_EXHAUSTED,
    "rate_limit_exceeded": ErrorReason.ERROR_REASON_RATE_LIMITED,
    "server_is_overloaded": ErrorReason.ERROR_REASON_OVERLOADED,
    "overloaded_error": ErrorReason.ERROR_REASON_OVERLOADED,
    "invalid_api_key": ErrorReason.ERROR_REASON_BACKEND_AUTH,
    "context_length_exceeded": ErrorReason.ERROR_REASON_CONTEXT_TOO_LONG,
    "exceed_context_size_error": ErrorReason.ERROR_REASON_CONTEXT_TOO_LONG,
    "content_filter": ErrorReason.ERROR_REASON_CONTENT_FILTERED,
    "content_policy_violation": ErrorReason.ERROR_REASON_CONTENT_FILTERED,
    "model_not_found": ErrorReason.ERROR_REASON_BACKEND_MODEL_MISSING,
    "DeploymentNotFound": ErrorReason.ERROR_REASON_BACKEND_MODEL_MISSING,
    "unsupported_parameter": ErrorReason.ERROR_REASON_UNSUPPORTED_FEATURE,
    "unsupported_value": ErrorReason.ERROR_REASON_UNSUPPORTED_FEATURE,
}


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
        case openai.APITimeoutError() if isinstance(error.__cause__, httpx.ConnectTimeout):
            return unreachable(provider, "could not be reached in time")
        case openai.APITimeoutError() | httpx.TimeoutException():
            return late(provider)
        case openai.APIStatusError():
            return of_refusal(_refusal(error, error.status_code, error.response.headers), provider, _WORDS)
        case openai.APIResponseValidationError():
            return malformed(provider)
        case openai.APIConnectionError() | httpx.TransportError() | httpx.StreamError():
            return unreachable(provider)
        case openai.APIError():
            return of_refusal(_refusal(error, 0, {}), provider, _WORDS)
        case _:
            return malformed(provider)


def _refusal(error: openai.APIError, status: int, headers: Mapping[str, str]) -> Refusal:
    # Compatible servers give the words in either place.
    code = next((word for word in (error.code, error.type) if word in _WORDS), error.code or "")
    message = text_of(error.body, "message") or text_of(error.body, "error", "message") or text_of(error.body, "error")
    return Refusal(status, message, str(code), str(error.param or ""), headers)
