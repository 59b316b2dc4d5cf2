"""The part of mesh.yaml that says how failures are handled."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from services.common.config.parts import Duration, Part


class BreakerConfig(Part):
    """When a provider that keeps failing is left alone."""

    failures: Annotated[int, Field(ge=1)] = 5
    """So many failures in a row open the breaker."""
    open: Duration = timedelta(seconds=5)
    """How long it stays open the first time; doubled each time a probe fails."""
    max_open: Duration = timedelta(minutes=2)
    """The longest it stays open by itself."""
    max_cool_down: Duration = timedelta(minutes=10)
    """The longest it stays open because the provider named a time (Retry-After)."""
    probes: Annotated[int, Field(ge=1)] = 1
    """So many calls may test at the same time whether the provider is back."""


class RetryConfig(Part):
    """Asking again those that failed, after all candidates did."""

    rounds: Annotated[int, Field(ge=0, le=10)] = 2
    """How often all of a call's candidates are asked again."""
    base: Duration = timedelta(milliseconds=100)
    """The wait before the first round is drawn from 0 to this, and the limit is doubled each round (full jitter)."""
    longest: Duration = timedelta(seconds=5)
    """The longest wait before a round. When providers ask for more with Retry-After, the caller is told instead."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Repeated calls are at most this share of first ones."""


class HedgeConfig(Part):
    """Asking the next candidate when one is slow to begin."""

    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """A model that has not begun when this share of its answers had, is slow. Less than the share of answers that are
    not slow, or the slow ones pass for ordinary."""
    factor: Annotated[float, Field(ge=1)] = 1.2
    """The learned time is stretched by this, so that ordinary answers are not taken for slow ones."""
    unlearned: Duration = timedelta(seconds=10)
    """What counts as slow while little is known of a model, and the most that ever does."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.06
    """Hedges are at most this share of calls; 0 turns them off."""


class ReliabilityConfig(Part):
    """How failures are handled."""

    on_stream_failure: Literal["error", "continue"] = "continue"
    """When a provider fails after it began to answer: end with an error, or go on with the next candidate."""
    first_token: Duration = timedelta(seconds=60)
    """While other models wait to be asked, one that has not begun to answer after so long, or after half of the
    caller's time, has failed."""
    stall: Duration = timedelta(seconds=30)
    """A stream that is silent for so long has failed."""
    breaker: BreakerConfig = BreakerConfig()
    retry: RetryConfig = RetryConfig()
    hedge: HedgeConfig = HedgeConfig()
