"""Refuses a stored question that is near in meaning but differs in a detail that turns the answer.

Embeddings hardly see numbers, negation, names or the order of words: "before" and "after" score 0.95. These few rules
are plain and err towards a miss; each gives the word that the log and `Miss.reason` explain themselves with.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

_WORD: Final = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+(?:['\u2019][^\W\d_]+)*|[^\w\s]")
"""A number, a word (with an apostrophe, plain or curly, inside), or a single mark."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_NEGATIONS: Final = _set(
    """no not never none nobody nothing nowhere neither nor without cannot hardly barely except unless instead
    nicht kein keine nie ohne pas jamais sans sin nunca"""
)

_NUMBER_WORDS: Final = dict(
    pair.split("=")
    for pair in _set(
        """zero=0 two=2 three=3 four=4 five=5 six=6 seven=7 eight=8 nine=9 ten=10 eleven=11 twelve=12 hundred=100
        thousand=1000 million=1000000 twice=2 double=2 half=0.5"""
    )
)
"""Words that count. `one` is left out: it is too often a pronoun."""

_SMALL_WORDS: Final = _set(
    """a an the is are was were be been do does did can could will would should i you my your me it its of in on at for
    with by"""
)
"""Words whose place in a sentence says little."""

_OPPOSITES: Final = (
    (_set("before prior"), _set("after later")),
    (
        _set("more most greater higher above over increase increasing raise maximum max highest"),
        _set("less fewer least lower below under decrease decreasing reduce minimum min lowest"),
    ),
    (_set("enable enabled enabling on"), _set("disable disabled disabling off")),
    (_set("start begin open create add install"), _set("stop end close delete remove uninstall")),
    (
        _set("input inputs upload import encode encrypt read"),
        _set("output outputs download export decode decrypt write"),
    ),
    (_set("first earliest oldest old"), _set("last latest newest new")),
    (
        _set("good best better advantages pros benefits"),
        _set("bad worst worse disadvantages cons drawbacks"),
    ),
    (_set("cheap cheapest cheaper"), _set("expensive dearest costliest")),
    (_set("fast faster fastest quick"), _set("slow slower slowest")),
    (_set("big bigger biggest large larger largest"), _set("small smaller smallest")),
    (_set("allow allowed accept"), _set("forbid forbidden deny reject refuse")),
    (_set("all every always"), _set("some sometimes")),
    (_set("success succeed succeeds"), _set("failure fail fails")),
    (_set("to"), _set("from")),
    (_set("buy"), _set("sell")),
    (_set("gain"), _set("lose")),
    (_set("legal"), _set("illegal")),
    (_set("left"), _set("right")),
)
"""Pairs of sides: a question with a word of one side and one with a word of the other ask for opposite things."""


@dataclass(frozen=True, slots=True)
class _Traits:
    """What the rules look at."""

    words: tuple[str, ...]
    numbers: Counter[str]
    negated: bool
    names: frozenset[str]


def conflict(asked: str, stored: str) -> str | None:
    """Says what sets two questions apart, in one word, or None when no rule finds anything.

    The order of the two does not matter.
    """
    one, other = _traits(asked), _traits(stored)
    if one.numbers != other.numbers:
        return "numbers"
    if one.negated != other.negated:
        return "negation"
    words, other_words = frozenset(one.words), frozenset(other.words)
    for left, right in _OPPOSITES:
        if _swapped(words, other_words, left, right) or _swapped(words, other_words, right, left):
            return "opposites"
    if one.names - _singular(other_words) and other.names - _singular(words):
        return "names"
    order, other_order = _order(one.words), _order(other.words)
    if order != other_order and sorted(order) == sorted(other_order):
        return "order"
    return None


def _swapped(one: frozenset[str], other: frozenset[str], left: frozenset[str], right: frozenset[str]) -> bool:
    """Whether one question has only the left side of a pair and the other only the right."""
    return bool(one & left and other & right) and not one & right and not other & left


def _order(words: tuple[str, ...]) -> list[str]:
    return [word for word in words if word not in _SMALL_WORDS]


def _singular(words: frozenset[str]) -> frozenset[str]:
    """Adds to each word its form without a final s: `GPUs` names what `GPU` names."""
    return words | {word.removesuffix("s") for word in words}


def _traits(text: str) -> _Traits:
    tokens = _WORD.findall(text)
    words = tuple(token.lower().replace("\u2019", "'") for token in tokens if token[0].isalnum())
    numbers = Counter(_NUMBER_WORDS.get(word, word) for word in words if word[0].isdigit() or word in _NUMBER_WORDS)
    negations = sum(word in _NEGATIONS or word.endswith("n't") for word in words)
    names = frozenset(
        token.lower().removesuffix("s")
        for previous, token in zip([".", *tokens], tokens, strict=False)
        if token[0].isupper() and (previous not in ".!?:" or token.isupper()) and len(token) > 1
    )
    return _Traits(words, numbers, negations % 2 == 1, names)
