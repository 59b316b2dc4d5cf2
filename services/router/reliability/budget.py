"""A budget for extra calls: second attempts and hedges may be at most a share of the first ones.

Without it, retries multiply the load on what is left just when something fails. Deposits and withdrawals as in the
retry budgets of Finagle and gRPC's throttling; the floor lets a quiet service retry at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class ExtraCallBudget:
    """A bucket of extra calls: each first call puts `share` in, each extra call takes one out."""

    share: float
    """Extra calls for each first call, 0 to 1 and above."""
    per_second: float
    """What comes in besides, so that a quiet service may retry."""
    most: float = 100.0
    """The most that is saved up."""
    clock: Callable[[], float] = time.monotonic
    _saved: float = field(default=-1.0)
    _at: float = 0.0

    def first_call(self) -> None:
        """A caller's call begins."""
        self._refill()
        self._saved = min(self._saved + self.share, self.most)

    def take(self) -> bool:
        """Takes one extra call out, if there is one."""
        self._refill()
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True

    def _refill(self) -> None:
        now = self.clock()
        if self._saved < 0:
            self._saved = min(self.per_second, self.most)
        else:
            self._saved = min(self._saved + (now - self._at) * self.per_second, self.most)
        self._at = now
