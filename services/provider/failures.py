"""A provider's refusal as the contract's reasons: one table for all kinds, which name what is their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.errors import MycelError, Reason
from services.provider.limits import retry_after

_SECRET: Final = re.compile(r"\b(?:sk|key|pk|Bearer)[-_ ][A-Za-z0-9_*.-]{4,}|\b[A-Za-z0-9_-]{40,}\b")
_MESSAGE_CHARACTERS: Final = 300
_FIELD_CHARACTERS: Final = 200
_TOO_LONG: Final = re.compile(
    r"context (?:length|window|size)|prompt is too long|too many tokens|input (?:is|length).{0,40}(?:too long|exceed)",
    re.IGNORECASE,
)
_UNFIT: Final = frozenset({400, 409, 422})
_MISSING: Final = frozenset({404, 410})
_TIMEOUTS: Final = frozenset({408, 504})
_BUSY: Final = frozenset({503, 529})
_RESTING: Final = frozenset(
    {
        ErrorReason.ERROR_REASON_RATE_LIMITED,
        ErrorReason.ERROR_REASON_QUOTA_EXHAUSTED,
        ErrorReason.ERROR_REASON_OVERLOADED,
        ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE,
    }
)
"""The reasons with which a time to come back makes sense."""

_OF_STATUS: Final[Mapping[int, Reason]] = {
    401: ErrorReason.ERROR_REASON_BACKEND_AUTH,
    402: ErrorReason.ERROR_REASON_QUOTA_EXHAUSTED,
    403: ErrorReason.ERROR_REASON_BACKEND_AUTH,
    407: ErrorReason.ERROR_REASON_BACKEND_AUTH,
    413: ErrorReason.ERROR_REASON_REQUEST_TOO_LARGE,
    429: ErrorReason.ERROR_REASON_RATE_LIMITED,
    **dict.fromkeys(_UNFIT, ErrorReason.ERROR_REASON_INVALID_ARGUMENT),
    **dict.fromkeys(_MISSING, ErrorReason.ERROR_REASON_BACKEND_MODEL_MISSING),
    **dict.fromkeys(_TIMEOUTS, ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED),
    **dict.fromkeys(_BUSY, ErrorReason.ERROR_REASON_OVERLOADED),
}

_OWN_WORDS: Final[Mapping[Reason, str]] = {
    # The provider's own words may repeat a part of the key.
    ErrorReason.ERROR_REASON_BACKEND_AUTH: "refused the configured key",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a provider answered in place of an answer."""

    status: int
    """The HTTP status; 0 when the error came inside an answer that had begun."""
    message: str = ""
    code: str = ""
    """The provider's word for what happened."""
    param: str = ""
    """The field that the provider names."""
    headers: Mapping[str, str] = field(default_factory=dict)


Words: TypeAlias = Mapping[str, Reason]
"""A provider's own words for what happened, as reasons."""


def of_refusal(refusal: Refusal, provider: str, words: Words) -> MycelError:
    """Gives the error for a refusal: by the provider's words where they are known, else by the HTTP status."""
    reason = words.get(refusal.code) or _OF_STATUS.get(refusal.status, ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE)
    if refusal.status in _UNFIT and _TOO_LONG.search(refusal.message):
        reason = ErrorReason.ERROR_REASON_CONTEXT_TOO_LONG
    field_ = ""
    if reason in (ErrorReason.ERROR_REASON_CONTEXT_TOO_LONG, ErrorReason.ERROR_REASON_CONTENT_FILTERED):
        field_ = "messages"
    elif reason in (ErrorReason.ERROR_REASON_INVALID_ARGUMENT, ErrorReason.ERROR_REASON_UNSUPPORTED_FEATURE):
        field_ = refusal.param[:_FIELD_CHARACTERS] or "messages"
    wait = retry_after(refusal.headers, datetime.now(UTC)) if reason in _RESTING else None
    return failure(reason, provider, _OWN_WORDS.get(reason) or _told(refusal), field=field_, wait=wait)


def failure(reason: Reason, provider: str, told: str, *, field: str = "", wait: float | None = None) -> MycelError:
    """Gives an error of a provider.

    Args:
        reason: why.
        provider: its name in the mesh.
        told: what happened, for a person.
        field: the refused field's path.
        wait: seconds after which a retry may succeed.
    """
    return MycelError(reason, f"{provider}: {told}", field=field, metadata={"provider": provider}, retry_after=wait)


def malformed(provider: str, told: str = "its answer was not understood") -> MycelError:
    """Gives the error for an answer that makes no sense."""
    return failure(ErrorReason.ERROR_REASON_BACKEND_MALFORMED, provider, told)


def unreachable(provider: str, told: str = "could not be reached, or broke off") -> MycelError:
    """Gives the error for a connection that failed."""
    return failure(ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE, provider, told)


def late(provider: str) -> MycelError:
    """Gives the error for a provider that said nothing for too long."""
    return failure(ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED, provider, "did not answer in time")


def text_of(body: object, *path: str) -> str:
    """Reads a text out of an error's body; nothing when it is not there."""
    value: Any = body
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return str(value) if isinstance(value, str | int) else ""


def _told(refusal: Refusal) -> str:
    """Gives the provider's message, without what looks like a key, and not at any length."""
    if 300 <= refusal.status < 400:  # noqa: PLR2004
        return "sent a redirect, which is not followed: keys are not sent elsewhere"
    if "<" in refusal.message[:1] or not refusal.message:
        return f"answered {refusal.status}" if refusal.status else "broke its answer off with an error"
    return " ".join(_SECRET.sub("[key]", refusal.message).split())[:_MESSAGE_CHARACTERS]
