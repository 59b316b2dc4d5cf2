"""Joins the rest of an answer to its beginning, when another model goes on with it.

A model that is told in words to go on often begins by repeating: the last words, the last sentence, or the whole
answer. What it repeats is cut off. A model that gets the beginning as its own answer repeats nothing, and nothing is
cut.
"""

from __future__ import annotations

_LEAST_OVERLAP = 8
"""Characters that must agree before text counts as repeated; fewer agree by chance."""
_WINDOW = 2000
"""How far back a repetition may begin, besides at the very beginning."""


class Stitcher:
    """Cuts from a continuation what repeats the end of the text before it."""

    def __init__(self, sent: str) -> None:
        """Makes a stitcher.

        Args:
            sent: the text that the caller has.
        """
        self._sent = sent
        self._held = ""
        first = max(len(sent) - _WINDOW, 0)
        self._starts = [0, *range(max(first, 1), len(sent) - _LEAST_OVERLAP + 1)] if sent else []
        self._repeated = 0

    def add(self, text: str) -> str:
        """Takes the next text of the continuation, and gives what of it is new and certain."""
        if not self._starts:
            return text
        self._held += text
        undecided = []
        for start in self._starts:
            tail = len(self._sent) - start
            if tail <= len(self._held):
                if self._sent.endswith(self._held[:tail]) and tail >= min(_LEAST_OVERLAP, len(self._sent)):
                    self._repeated = max(self._repeated, tail)
            elif self._sent.startswith(self._held, start):
                undecided.append(start)
        self._starts = undecided
        return "" if undecided else self.finish()

    def finish(self) -> str:
        """Gives what was held back; to be called when the continuation ends."""
        new, self._held, self._starts = self._held[self._repeated :], "", []
        return new
