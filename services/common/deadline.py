"""Deadlines: every hop gets what is left of the caller's time, and never more than its own limit."""

from __future__ import annotations

import time
from dataclasses import dataclass

from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.errors import MycelError


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in time by which a call must be done."""

    at: float
    """On the clock of `time.monotonic`, in seconds."""

    @classmethod
    def of(cls, remaining: float | None, limit: float) -> Deadline:
        """Makes the deadline of an incoming call.

        Args:
            remaining: the caller's seconds left (`context.time_remaining()`); None when it set no deadline.
            limit: the most seconds that this service gives a call.
        """
        seconds = limit if remaining is None else min(remaining, limit)
        return cls(time.monotonic() + seconds)

    def left(self, limit: float | None = None) -> float:
        """Gives the seconds left, at most `limit`.

        Raises:
            MycelError: DEADLINE_EXCEEDED, when none are left.
        """
        seconds = self.at - time.monotonic()
        if seconds <= 0:
            reason = ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED
            raise MycelError(reason, "the call's deadline has passed")
        return seconds if limit is None else min(seconds, limit)
