"""What this router knows of its providers: breakers, times to the first token, last errors, budgets."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from services.common.config import ReliabilityConfig
from services.common.errors import MycelError
from services.router.catalogue import Candidate
from services.router.reliability.breaker import Breaker
from services.router.reliability.budget import ExtraCallBudget
from services.router.reliability.first_token import FirstTokenTimes

_LEAST_SLOW_SECONDS = 0.05
_RETRIES_PER_SECOND = 1.0


@dataclass(slots=True)
class ProviderRecord:
    """What was seen of one provider."""

    breaker: Breaker
    """Shared with the providers of the same quota group."""
    last_error: str = ""
    """The reason of its last failure."""
    last_error_at: float = 0.0
    """When, in seconds since 1970."""
    first_token: FirstTokenTimes = field(default_factory=FirstTokenTimes)
    failures: Counter[str] = field(default_factory=Counter)
    """How often it failed, by reason."""


class Board:
    """The state of every provider, and the budgets for extra calls."""

    def __init__(
        self, config: ReliabilityConfig, quota_groups: Mapping[str, str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Makes a board on which nothing is known.

        Args:
            config: how failures are handled.
            quota_groups: each provider's quota group; those of the same group share one breaker.
            clock: seconds that never go back.
        """
        self.config = config
        self.clock = clock
        breakers = {group: Breaker(config.breaker, clock) for group in set(quota_groups.values())}
        self.providers = {name: ProviderRecord(breakers[group]) for name, group in quota_groups.items()}
        self.retries = ExtraCallBudget(config.retry.share, _RETRIES_PER_SECOND, clock=clock)
        self.hedges = ExtraCallBudget(config.hedge.share, 0.0, clock=clock)
        self._first_token: dict[str, FirstTokenTimes] = {}

    def breaker(self, candidate: Candidate) -> Breaker:
        """Gives the breaker of a candidate's quota group."""
        return self.providers[candidate.provider].breaker

    def note_failure(self, candidate: Candidate, error: MycelError) -> None:
        """Remembers a provider's last failure."""
        record = self.providers[candidate.provider]
        record.last_error, record.last_error_at = error.reason_name, time.time()
        record.failures[error.reason_name] += 1

    def note_first_token(self, candidate: Candidate, seconds: float) -> None:
        """Learns how long a model took to begin."""
        self._first_token.setdefault(candidate.model, FirstTokenTimes()).add(seconds)
        self.providers[candidate.provider].first_token.add(seconds)

    def slow_after(self, candidate: Candidate) -> float:
        """Gives the seconds after which a model that has not begun counts as slow."""
        hedge = self.config.hedge
        unlearned = hedge.unlearned.total_seconds()
        known = self._first_token.get(candidate.model)
        learned = known.quantile(hedge.quantile) if known is not None else None
        if learned is None:
            return unlearned
        return min(max(learned * hedge.factor, _LEAST_SLOW_SECONDS), unlearned)
