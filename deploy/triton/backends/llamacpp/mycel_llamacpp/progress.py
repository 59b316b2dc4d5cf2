"""Whether the engine gets on with the answers that it was asked for."""

from __future__ import annotations

import threading
import time

STUCK_SECONDS = 300.0
"""An engine that gave nothing for so long while answers were in progress is stuck. A large model on few cores takes
minutes for a batch of a long prompt; callers wait less, by their own limits."""


class Progress:
    """Counts the answers in progress, and when one last moved. For many threads."""

    def __init__(self, stuck_seconds: float = STUCK_SECONDS) -> None:
        self._stuck_seconds = stuck_seconds
        self._lock = threading.Lock()
        self._answers = 0
        self._moved_at = 0.0

    def begin(self) -> None:
        """Counts an answer in; it has to `end`."""
        with self._lock:
            self._answers += 1
            self._moved_at = time.monotonic()

    def end(self) -> None:
        """Counts an answer out."""
        with self._lock:
            self._answers -= 1
            self._moved_at = time.monotonic()

    def moved(self) -> None:
        """Notes a sign of life from the engine."""
        self._moved_at = time.monotonic()

    def is_stuck(self) -> bool:
        """Says whether answers are in progress and none has moved for too long."""
        with self._lock:
            return self._answers > 0 and time.monotonic() - self._moved_at > self._stuck_seconds
