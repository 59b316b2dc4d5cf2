"""When to come back, and how much is left, out of providers' headers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.provider.limits import requests_left, retry_after, tokens_left

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "9e99"}, 86_400),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"x-ms-retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 9),
        ({"x-ratelimit-reset-requests": "1m2.5s"}, 62.5),
        ({"x-ratelimit-reset-tokens": "6h3m0s"}, 21_780),
        ({"x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"anthropic-ratelimit-requests-reset": "2026-01-01T12:00:10Z"}, 10),
        ({"anthropic-ratelimit-tokens-reset": "2026-01-01T13:00:20+01:00"}, 1220 - 1200),
        ({"retry-after": "5", "anthropic-ratelimit-input-tokens-reset": "2026-01-01T12:00:40Z"}, 40),
    ],
)
def test_the_latest_time_counts(headers: dict[str, str], seconds: float | None) -> None:
    told = retry_after(headers, NOW)
    assert told == (None if seconds is None else pytest.approx(seconds))


def test_a_limit_with_plenty_left_does_not_count() -> None:
    headers = {
        "retry-after": "2",
        "x-ratelimit-limit-requests": "1000",
        "x-ratelimit-remaining-requests": "900",
        "x-ratelimit-reset-requests": "10m",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "50",
        "x-ratelimit-reset-tokens": "4s",
    }
    assert retry_after(headers, NOW) == pytest.approx(4)


def test_what_is_left() -> None:
    headers = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "2026-01-01T12:00:01Z",
        "anthropic-ratelimit-input-tokens-remaining": "1000",
        "anthropic-ratelimit-output-tokens-remaining": "10",
    }
    requests = requests_left(headers, NOW)
    assert requests is not None
    assert (requests.remaining, requests.limit, requests.reset) == (49, 50, NOW + timedelta(seconds=1))
    tokens = tokens_left(headers, NOW)
    assert tokens is not None
    assert (tokens.remaining, tokens.limit, tokens.reset) == (10, 0, None)
    assert requests_left({"x-ratelimit-remaining-requests": "many"}, NOW) is None
    assert requests_left({"x-ratelimit-remaining-requests": "9" * 400}, NOW) is None


@given(st.text(), st.text())
def test_nothing_that_is_told_breaks_it(one: str, other: str) -> None:
    headers = {
        "retry-after": one,
        "retry-after-ms": other,
        "x-ratelimit-reset-tokens": one,
        "x-ratelimit-remaining-tokens": other,
    }
    seconds = retry_after(headers, NOW)
    assert seconds is None or 0 <= seconds <= 86_400
    tokens_left(headers, NOW)
