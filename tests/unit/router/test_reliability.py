"""Breaker, extra-call budget and first-token times, on a clock that the tests turn."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.config import BreakerConfig
from services.router.reliability.breaker import Breaker, State
from services.router.reliability.budget import ExtraCallBudget
from services.router.reliability.first_token import FirstTokenTimes


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _breaker(clock: Clock) -> Breaker:
    config = BreakerConfig(failures=3, open=timedelta(seconds=10), max_open=timedelta(seconds=30), probes=1)
    return Breaker(config, clock, uniform=lambda _, high: high)


def _fail(breaker: Breaker, times: int = 1, retry_after: float | None = None) -> None:
    for _ in range(times):
        breaker.fail(probe=breaker.begin(), retry_after=retry_after)


def test_failures_in_a_row_open_it() -> None:
    breaker = _breaker(Clock())
    _fail(breaker, 2)
    breaker.succeed(probe=breaker.begin())
    _fail(breaker, 2)
    assert breaker.admits()
    _fail(breaker)
    assert (breaker.state, breaker.admits(), breaker.seconds_to_probe) == (State.OPEN, False, 10)


def test_one_probe_passes_and_its_success_closes_it() -> None:
    clock = Clock()
    breaker = _breaker(clock)
    _fail(breaker, 3)
    clock.now += 10
    assert breaker.state is State.HALF_OPEN
    probe = breaker.begin()
    assert probe
    assert not breaker.admits()
    breaker.succeed(probe=probe)
    assert (breaker.state, breaker.admits()) == (State.CLOSED, True)


def test_a_probe_that_only_begins_gives_little_trust() -> None:
    clock = Clock()
    breaker = _breaker(clock)
    _fail(breaker, 3)
    clock.now += breaker.seconds_to_probe
    assert breaker.begin()
    breaker.trust()
    assert breaker.state is State.CLOSED
    breaker.fail(probe=breaker.begin())
    assert breaker.state is State.OPEN
    clock.now += breaker.seconds_to_probe
    assert breaker.begin()
    breaker.trust()
    breaker.succeed(probe=breaker.begin())
    breaker.fail(probe=breaker.begin())
    assert breaker.state is State.CLOSED


def test_a_failed_probe_opens_it_for_longer_up_to_a_limit() -> None:
    clock = Clock()
    breaker = _breaker(clock)
    _fail(breaker, 3)
    waits = []
    for _ in range(4):
        waits.append(breaker.seconds_to_probe)
        clock.now += breaker.seconds_to_probe
        _fail(breaker)
    assert waits == [10, 20, 30, 30]


def test_a_probe_that_is_cancelled_gives_its_place_back() -> None:
    clock = Clock()
    breaker = _breaker(clock)
    _fail(breaker, 3)
    clock.now += 10
    breaker.forget(probe=breaker.begin())
    assert breaker.admits()


def test_the_latest_retry_after_is_honoured() -> None:
    clock = Clock()
    breaker = _breaker(clock)
    first, second = breaker.begin(), breaker.begin()
    breaker.fail(probe=first, retry_after=60)
    breaker.fail(probe=second, retry_after=5)
    assert breaker.seconds_to_probe == 60


def test_a_late_success_does_not_close_an_open_breaker() -> None:
    breaker = _breaker(Clock())
    late = breaker.begin()
    _fail(breaker, 3)
    breaker.succeed(probe=late)
    assert breaker.state is State.OPEN


def test_extra_calls_are_a_share_of_first_ones() -> None:
    clock = Clock()
    budget = ExtraCallBudget(share=0.1, per_second=0, clock=clock)
    assert not budget.take()
    taken = 0
    for _ in range(1000):
        budget.first_call()
        taken += budget.take()
    assert 99 <= taken <= 100


def test_a_quiet_service_may_retry() -> None:
    clock = Clock()
    budget = ExtraCallBudget(share=0, per_second=1, clock=clock)
    assert [budget.take(), budget.take()] == [True, False]
    clock.now += 1
    assert budget.take()


@given(st.lists(st.floats(0.001, 100), min_size=20, max_size=400), st.floats(0.01, 0.99))
def test_a_quantile_is_one_of_the_last_times(times: list[float], share: float) -> None:
    known = FirstTokenTimes()
    for seconds in times:
        known.add(seconds)
    found = known.quantile(share)
    last = times[-256:]
    assert found in last
    assert sum(seconds <= found for seconds in last) >= share * len(last)


def test_too_few_times_say_nothing() -> None:
    known = FirstTokenTimes()
    known.add(1.0)
    assert known.quantile(0.5) is None


@pytest.mark.parametrize("retry_after", [0, -1])
def test_an_empty_retry_after_counts_as_a_plain_failure(retry_after: float) -> None:
    breaker = _breaker(Clock())
    _fail(breaker, 1, retry_after)
    assert breaker.state is State.CLOSED
