"""Decides whether a near question's answer may be given.

A fixed threshold and the guard, for now: what comes after (a calibrated verdict under an error budget) has the same
two types around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.cache.entries import EntryInfo
from services.cache.guard import conflict


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stored question that is near the one asked."""

    info: EntryInfo
    similarity: float
    """Cosine, -1 to 1."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be served, and why."""

    served: Candidate | None
    """The candidate whose answer may be given."""
    reason: str
    """For a miss: `no_entry`, `below_threshold` or `guard`; empty for a hit."""
    nearest: Candidate | None
    """The nearest candidate, served or not."""


class ThresholdRule:
    """Serves the nearest question that is similar enough and that the guard lets through."""

    def __init__(self, threshold: float) -> None:
        """Makes a rule.

        Args:
            threshold: the cosine similarity from which a question may be served.
        """
        self.threshold = threshold

    def decide(self, question: str, candidates: Sequence[Candidate]) -> Decision:
        """Decides among candidates.

        Args:
            question: what is asked.
            candidates: what is near, nearest first.
        """
        if not candidates:
            return Decision(None, "no_entry", None)
        near = [candidate for candidate in candidates if candidate.similarity >= self.threshold]
        if not near:
            return Decision(None, "below_threshold", candidates[0])
        for candidate in near:
            if conflict(question, candidate.info.question) is None:
                return Decision(candidate, "", candidates[0])
        return Decision(None, "guard", candidates[0])
