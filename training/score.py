"""Decides whether an answer is the right one, strictly."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

# An answer below this token F1 is wrong even if no other answer is nearer.
MIN_F1 = 0.8

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The text's words in lower case, punctuation dropped."""
    return _WORD.findall(text.lower())


def token_f1(given: str, wanted: str) -> float:
    """Harmonic mean of precision and recall over words with their counts, 0 to 1."""
    given_words, wanted_words = words(given), words(wanted)
    shared = sum((Counter(given_words) & Counter(wanted_words)).values())
    if shared == 0:
        return 0.0
    return 2 * shared / (len(given_words) + len(wanted_words))


def is_verbatim(given: str, wanted: str) -> bool:
    """Whether both texts have the same words in the same order."""
    return words(given) == words(wanted)


def is_right(given: str, wanted_id: str, answers: Mapping[str, str]) -> bool:
    """Whether `given` is the answer of `wanted_id`.

    It is when the words are the same, or when that answer is the nearest of all `answers` (id to text) by
    token F1 and reaches MIN_F1.
    """
    wanted = answers[wanted_id]
    if is_verbatim(given, wanted):
        return True
    score = token_f1(given, wanted)
    if score < MIN_F1:
        return False
    return all(token_f1(given, other) < score for key, other in answers.items() if key != wanted_id)
