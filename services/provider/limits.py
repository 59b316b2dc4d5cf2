"""What providers tell of their limits in headers: when to come back, and how much is left.

Times come as seconds, milliseconds, spans such as `1m30.5s`, HTTP dates and RFC 3339 dates.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|s|m|h|d)")
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_LONGEST: Final = 86_400.0
_MILLISECONDS: Final = ("retry-after-ms", "x-ms-retry-after-ms")
_PLENTY: Final = 0.1
"""A limit of which more than this share is left is not the one that was reached."""

_REQUESTS: Final = ("x-ratelimit-{}-requests", "anthropic-ratelimit-requests-{}")
_TOKENS: Final = (
    "x-ratelimit-{}-tokens",
    "anthropic-ratelimit-tokens-{}",
    "anthropic-ratelimit-input-tokens-{}",
    "anthropic-ratelimit-output-tokens-{}",
)


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left of a limit."""

    remaining: int
    limit: int
    """The whole; 0 when not told."""
    told: datetime
    """When the provider told."""
    reset: datetime | None
    """When the limit is whole again; None when not told."""

    @property
    def plenty(self) -> bool:
        """Whether so much is left that this limit cannot be the one that was reached."""
        return bool(self.limit) and self.remaining > self.limit * _PLENTY


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Gives the seconds after which a refused call may be repeated: the latest time that the headers name.

    Args:
        headers: the answer's headers, looked up without regard to case.
        now: the time, with its zone.
    """
    named = [_clock(headers.get("retry-after"), now)]
    named += [_seconds(headers.get(name), 1e-3) for name in _MILLISECONDS]
    for pattern in (*_REQUESTS, *_TOKENS):
        quota = _quota(headers, pattern, now)
        if quota is None or not quota.plenty:
            named.append(_clock(headers.get(pattern.format("reset")), now))
    known = [seconds for seconds in named if seconds is not None]
    return min(max(known), _LONGEST) if known else None


def requests_left(headers: Mapping[str, str], now: datetime) -> Quota | None:
    """Gives what is left of the limit on requests; None when the headers do not tell."""
    return _tightest(headers, _REQUESTS, now)


def tokens_left(headers: Mapping[str, str], now: datetime) -> Quota | None:
    """Gives what is left of the tightest limit on tokens; None when the headers do not tell."""
    return _tightest(headers, _TOKENS, now)


def _tightest(headers: Mapping[str, str], patterns: tuple[str, ...], now: datetime) -> Quota | None:
    told = [quota for pattern in patterns if (quota := _quota(headers, pattern, now)) is not None]
    return min(told, key=lambda quota: quota.remaining, default=None)


def _quota(headers: Mapping[str, str], pattern: str, now: datetime) -> Quota | None:
    remaining = _count(headers.get(pattern.format("remaining")))
    if remaining is None:
        return None
    seconds = _clock(headers.get(pattern.format("reset")), now)
    reset = None if seconds is None else datetime.fromtimestamp(now.timestamp() + seconds, UTC)
    return Quota(remaining, _count(headers.get(pattern.format("limit"))) or 0, now, reset)


def _count(text: str | None) -> int | None:
    return min(int(text), 2**62) if text and text.isascii() and text.isdigit() and len(text) < len(str(2**62)) else None


def _clock(text: str | None, now: datetime) -> float | None:
    """Reads a time in any of the forms, as seconds from now; what is past is now."""
    if text is None:
        return None
    seconds = _seconds(text, 1.0)
    if seconds is not None:
        return seconds
    spans = _SPAN.findall(text)
    if spans and _SPAN.sub("", text).strip() == "":
        return min(sum(float(number) * _UNITS[unit] for number, unit in spans), _LONGEST)
    date = _date(text)
    return None if date is None else min(max((date - now).total_seconds(), 0.0), _LONGEST)


def _seconds(text: str | None, scale: float) -> float | None:
    try:
        seconds = float(text or "") * scale
    except ValueError:
        return None
    return min(max(seconds, 0.0), _LONGEST) if math.isfinite(seconds) else None


def _date(text: str) -> datetime | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            date = read(text)
        except (ValueError, TypeError, OverflowError):
            continue
        return date if date.tzinfo else date.replace(tzinfo=UTC)
    return None
