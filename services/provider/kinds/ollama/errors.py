"""What the SDK raises, as the contract's reasons."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

import httpx
import ollama
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.errors import MycelError, Reason
from services.provider import guard
from services.provider.failures import Refusal, late, malformed, of_refusal, text_of, unreachable

_WORDS: Final[Mapping[str, Reason]] = {
    "unsupported": ErrorReason.ERROR_REASON_UNSUPPORTED_FEATURE,
    "missing": ErrorReason.ERROR_REASON_BACKEND_MODEL_MISSING,
    "spent": ErrorReason.ERROR_REASON_QUOTA_EXHAUSTED,
    "busy": ErrorReason.ERROR_REASON_OVERLOADED,
    "long": ErrorReason.ERROR_REASON_CONTEXT_TOO_LONG,
}

# Ollama has no codes: what happened stands in the message alone.
_MESSAGES: Final[tuple[tuple[re.Pattern[str], str, str], ...]] = (
    (re.compile(r"does not support (tools|thinking|vision|chat|generate|embed\w*)", re.IGNORECASE), "unsupported", ""),
    (re.compile(r"model .*not found|try pulling it first", re.IGNORECASE), "missing", "model"),
    (re.compile(r"usage limit|quota|upgrade your", re.IGNORECASE), "spent", ""),
    (re.compile(r"server busy|maximum pending requests|overloaded", re.IGNORECASE), "busy", ""),
    (re.compile(r"exceeds? (?:the |maximum )*context length|exceeds context", re.IGNORECASE), "long", "messages"),
)
_FIELDS: Final = {"tools": "tools", "thinking": "reasoning_effort", "vision": "messages", "chat": "model"}


class HttpError(Exception):
    """An answer that is an error: the SDK would keep neither its headers nor its form."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str]) -> None:
        super().__init__(f"the status {status}")
        self.status = status
        self.text = text
        self.headers = headers


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
        case HttpError():
            return of_refusal(_refusal(error.status, _message(error.text), error.headers), provider, _WORDS)
        case ollama.ResponseError():
            return of_refusal(_refusal(0, error.error, {}), provider, _WORDS)
        case httpx.ConnectTimeout():
            return unreachable(provider, "could not be reached in time")
        case httpx.TimeoutException():
            return late(provider)
        case httpx.TransportError() | httpx.StreamError() | ConnectionError():
            return unreachable(provider)
        case _:
            return malformed(provider)


def _message(text: str) -> str:
    try:
        body = json.loads(text)
    except ValueError:
        return text
    return text_of(body, "error") or text_of(body, "error", "message")


def _refusal(status: int, message: str, headers: Mapping[str, str]) -> Refusal:
    for pattern, word, field in _MESSAGES:
        found = pattern.search(message)
        if found is not None:
            named = field or _FIELDS.get(found[1] if found.groups() else "", "")
            return Refusal(status, message, word, named, headers)
    return Refusal(status, message, headers=headers)
