"""How a provider is, as the calls to it have shown: its last failure, and what it told of its limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.errors import MycelError
from services.provider.limits import Quota, requests_left, tokens_left

_OF_THE_REQUEST = frozenset(
    {
        ErrorReason.ERROR_REASON_INVALID_ARGUMENT,
        ErrorReason.ERROR_REASON_UNSUPPORTED_FEATURE,
        ErrorReason.ERROR_REASON_CONTEXT_TOO_LONG,
        ErrorReason.ERROR_REASON_CONTENT_FILTERED,
        ErrorReason.ERROR_REASON_REQUEST_TOO_LARGE,
    }
)
"""Failures that tell of what was asked, not of the provider."""


@dataclass(slots=True)
class Standing:
    """What is known of one provider. Kept by its adapter, for status alone: nothing is decided by it."""

    failure: completion.ProviderFailure | None = None
    requests: Quota | None = None
    tokens: Quota | None = None

    def saw_headers(self, headers: Mapping[str, str]) -> None:
        """Takes in the headers of an answer, their names in lower case."""
        told = {name: value for name, value in headers.items() if "ratelimit" in name}
        if told:
            now = datetime.now(UTC)
            self.requests = requests_left(told, now) or self.requests
            self.tokens = tokens_left(told, now) or self.tokens

    def saw_failure(self, error: MycelError) -> None:
        """Takes in a failed call; what was the request's own fault is none of the provider's."""
        if error.reason not in _OF_THE_REQUEST:
            failure = completion.ProviderFailure(reason=error.reason_name, message=error.message)
            failure.time.FromDatetime(datetime.now(UTC))
            self.failure = failure

    def fill(self, status: completion.ProviderStatus) -> None:
        """Writes what is known into the contract's form."""
        if self.failure is not None:
            status.last_failure.CopyFrom(self.failure)
        if self.requests is not None:
            status.requests.CopyFrom(_message(self.requests))
        if self.tokens is not None:
            status.tokens.CopyFrom(_message(self.tokens))


def _message(quota: Quota) -> completion.RemainingQuota:
    return completion.RemainingQuota(
        remaining=quota.remaining,
        limit=quota.limit,
        told=_time(quota.told),
        reset=None if quota.reset is None else _time(quota.reset),
    )


def _time(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
