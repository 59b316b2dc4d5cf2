"""The table of reasons, and its way over the wire and back."""

from __future__ import annotations

import pytest
from google.rpc import error_details_pb2
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.errors import DOMAIN, MEANINGS, MycelError, invalid, reason_name, reason_of_name
from services.common.status import to_status


def test_every_reason_has_a_meaning() -> None:
    assert set(MEANINGS) == set(ErrorReason.values()) - {ErrorReason.ERROR_REASON_UNSPECIFIED}


@pytest.mark.parametrize("reason", sorted(MEANINGS))
def test_names_go_both_ways(reason: ErrorReason.ValueType) -> None:
    assert reason_of_name(reason_name(reason)) == reason


def test_an_unknown_name_is_no_reason() -> None:
    assert reason_of_name("NO_SUCH_THING") is None


def test_a_status_names_reason_field_and_retry() -> None:
    error = MycelError(
        ErrorReason.ERROR_REASON_RATE_LIMITED, "slow down", metadata={"provider": "openai"}, retry_after=1.5
    )
    status = to_status(error)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (info.domain, info.reason, info.metadata["provider"]) == (DOMAIN, "RATE_LIMITED", "openai")
    assert (retry.retry_delay.seconds, retry.retry_delay.nanos) == (1, 500_000_000)


def test_a_refused_field_is_named() -> None:
    info = error_details_pb2.ErrorInfo()
    to_status(invalid("messages[0].role", "is missing")).details[0].Unpack(info)
    assert info.metadata["field"] == "messages[0].role"


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 0.9999999999])
def test_an_odd_retry_time_is_still_a_valid_duration(seconds: float) -> None:
    retry = error_details_pb2.RetryInfo()
    error = MycelError(ErrorReason.ERROR_REASON_OVERLOADED, "busy", retry_after=seconds)
    assert to_status(error).details[1].Unpack(retry)
    assert 0 <= retry.retry_delay.nanos < 1_000_000_000
    assert retry.retry_delay.seconds >= 0
