"""How long a model takes to its first token, and from when on waiting longer is not worth it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_MOST_SAMPLES = 256
_LEAST_SAMPLES = 20


@dataclass(slots=True)
class FirstTokenTimes:
    """The last times to the first token of one model, in seconds."""

    _samples: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_SAMPLES))

    def add(self, seconds: float) -> None:
        """Takes in a time."""
        self._samples.append(seconds)

    def quantile(self, share: float) -> float | None:
        """Gives the time within which that share of the answers began; None while too few are known."""
        if len(self._samples) < _LEAST_SAMPLES:
            return None
        ordered = sorted(self._samples)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
