"""A circuit breaker: a provider that keeps failing is left alone, and asked again with a few probes.

Closed, it lets every call pass. After `failures` failures in a row, or when the provider names a time to come back,
it opens: no call passes. After a while it is half open: at most `probes` calls pass at the same time, and the first
success closes it, the first failure opens it again for longer. The time open doubles up to a limit and is drawn with
full jitter between half of it and all of it, so that replicas do not probe in step.

A probe that begins to answer lets the others in again, but on trust alone: the next failure opens the breaker at once,
until an answer is complete.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from services.common.config import BreakerConfig

Clock = Callable[[], float]


class State(StrEnum):
    """What a breaker lets pass."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(slots=True)
class Breaker:
    """The breaker of one quota group. Times are seconds on its clock."""

    config: BreakerConfig
    clock: Clock = time.monotonic
    uniform: Callable[[float, float], float] = random.uniform
    _failures: int = 0
    _openings: int = 0
    _open_until: float = 0.0
    _probing: int = 0

    @property
    def state(self) -> State:
        if self._open_until <= 0:
            return State.CLOSED
        return State.OPEN if self.clock() < self._open_until else State.HALF_OPEN

    @property
    def seconds_to_probe(self) -> float:
        """Seconds until a probe may pass; 0 when one may now, or when the breaker is closed."""
        return max(self._open_until - self.clock(), 0.0) if self._open_until > 0 else 0.0

    def admits(self) -> bool:
        """Tells whether a call may pass now, without letting it."""
        state = self.state
        return state is State.CLOSED or (state is State.HALF_OPEN and self._probing < self.config.probes)

    def begin(self) -> bool:
        """Lets a call pass, if one may; its end must be told by `succeed`, `fail` or `forget`, with what this gave.

        Returns:
            Whether the call is a probe.
        """
        probe = self.state is State.HALF_OPEN
        if probe:
            self._probing += 1
        return probe

    def trust(self) -> None:
        """A probe has begun to answer. It counts as none any more."""
        self._end(probe=True)
        self._failures = self.config.failures - 1
        self._open_until = 0.0

    def succeed(self, *, probe: bool) -> None:
        """A call was answered to its end: whatever was wrong is over."""
        self._end(probe=probe)
        if probe or self.state is State.CLOSED:
            self._failures = self._openings = 0
            self._open_until = 0.0

    def fail(self, *, probe: bool, retry_after: float | None = None) -> None:
        """A call failed through the provider's fault.

        Args:
            probe: what `begin` gave.
            retry_after: seconds after which the provider wants to be asked again; opens the breaker at once.
        """
        self._end(probe=probe)
        self._failures += 1
        if retry_after is not None and retry_after > 0:
            self._open(
                max(self._open_until, self.clock() + min(retry_after, self.config.max_cool_down.total_seconds()))
            )
        elif probe or (self.state is State.CLOSED and self._failures >= self.config.failures):
            longest = self.config.max_open.total_seconds()
            span = min(self.config.open.total_seconds() * 2.0 ** min(self._openings, 20), longest)
            self._open(self.clock() + self.uniform(span / 2, span))

    def forget(self, *, probe: bool) -> None:
        """A call ended without telling anything of the provider: it was cancelled, or refused for its own sake."""
        self._end(probe=probe)

    def _open(self, until: float) -> None:
        self._openings += 1
        self._failures = 0
        self._open_until = until

    def _end(self, *, probe: bool) -> None:
        if probe:
            self._probing -= 1
