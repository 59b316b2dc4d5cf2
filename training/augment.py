"""Says a question in other words: frames, synonyms, lost words, typos, casing. Cheap variety for training."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from training.wording import CLOSERS, COMPARE, HOW_TO, OPENERS, PURPOSE, SMALL_WORDS, SYNONYMS, WHAT_IS


def _frame(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"^{pattern}\??$", re.IGNORECASE)


_FRAMES: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (_frame("(?:compare|what is the difference between) (.+?) (?:and|with) (.+?)"), COMPARE),
    (_frame("(.+?) (?:versus|vs) (.+?)"), COMPARE),
    (_frame("(?:how (?:do|can|should|could|would) I|how to) (.+?)"), HOW_TO),
    (_frame("(?:why use|why do I need|what is the (?:purpose|use|role) of) (.+?)"), PURPOSE),
    (_frame("what does (.+?) do"), PURPOSE),
    (_frame("(?:what is|what are|what's|define|describe|explain|tell me about) (.+?)"), WHAT_IS),
    (_frame("what does (.+?) mean"), WHAT_IS),
)
_WORD = re.compile(r"[A-Za-z][\w'-]*")
_LOOKUP = {
    phrase: tuple(other for group in SYNONYMS if phrase in group for other in group)
    for phrases in SYNONYMS
    for phrase in phrases
}
_PHRASES = re.compile(r"\b(" + "|".join(sorted(map(re.escape, _LOOKUP), key=len, reverse=True)) + r")\b", re.IGNORECASE)


_FILLERS = tuple(sorted(SMALL_WORDS))


class Rephraser:
    """Makes random variants of questions; the same random generator gives the same variants."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def vary(self, question: str) -> str:
        """One variant of the question; sometimes the question itself."""
        rng = self._rng
        if self._chance(0.12):
            return question
        text = question
        if self._chance(0.45):
            text = self._reframe(text)
        if self._chance(0.6):
            text = self._swap_synonyms(text, rate=0.3)
        if self._chance(0.06):
            text = self._keywords(text)
        elif self._chance(0.36):
            text = self._drop_words(text)
        if self._chance(0.15):
            text = f"{rng.choice(OPENERS)} {_lower_first(text)}"
        if self._chance(0.1):
            text = f"{text.rstrip('?.')} {rng.choice(CLOSERS)}?"
        if self._chance(0.12):
            text = self._typo(text)
        return self._recase(text)

    def from_bag(self, phrasings: Sequence[str], answer: str) -> str:
        """A handful of the words that mark a pair: of all its phrasings, with a few of its answer.

        What a question is about is mostly in its words, whatever their order.
        """
        rng = self._rng
        asked = [word for phrasing in phrasings for word in _content_words(phrasing)]
        answered = _content_words(answer)
        size = rng.randint(2, 5)
        chosen = [rng.choice(answered if self._chance(0.2) else asked) for _ in range(size)]
        if self._chance(0.6):  # a natural beginning, with small words between
            start = rng.choice(phrasings).split()
            chosen = [*start[: rng.randint(1, max(1, len(start) // 2))], *chosen]
            for _ in range(rng.randint(0, 2)):
                chosen.insert(rng.randint(1, len(chosen)), rng.choice(_FILLERS))
        text = " ".join(chosen) + ("?" if self._chance(0.5) else "")
        if self._chance(0.4):
            text = self._swap_synonyms(text, rate=0.3)
        return self._recase(text)

    def _chance(self, rate: float) -> bool:
        return self._rng.random() < rate

    def _reframe(self, text: str) -> str:
        for pattern, frames in _FRAMES:
            match = pattern.match(text)
            if match:
                return self._rng.choice(frames).format(*match.groups())
        return text

    def _swap_synonyms(self, text: str, rate: float) -> str:
        def swap(match: re.Match[str]) -> str:
            if not self._chance(rate):
                return match.group(0)
            return self._rng.choice(_LOOKUP[match.group(0).lower()])

        return _PHRASES.sub(swap, text)

    def _drop_words(self, text: str) -> str:
        kept = []
        for word in text.split():
            small = word.strip("?,.").lower() in SMALL_WORDS
            if not self._chance(0.3 if small else 0.12):
                kept.append(word)
        return " ".join(kept) or text

    def _keywords(self, text: str) -> str:
        found = _content_words(text)
        self._rng.shuffle(found)
        return " ".join(found) or text

    def _typo(self, text: str) -> str:
        places = [i for i in range(1, len(text) - 1) if text[i].isalpha() and text[i - 1].isalpha()]
        if not places:
            return text
        i = self._rng.choice(places)
        before, letter, after = text[:i], text[i], text[i + 1 :]
        slips = (
            before + after,
            before + letter + letter + after,
            before[:-1] + letter + before[-1] + after,
            before + self._rng.choice("etaoinshrdlu") + after,
        )
        return self._rng.choice(slips)

    def _recase(self, text: str) -> str:
        rng = self._rng
        if self._chance(0.3):
            text = text.rstrip("?.! ")
        elif text[-1:].isalnum() and self._chance(0.3):
            text += rng.choice("?.!?")
        if self._chance(0.3):
            return text.lower()
        if self._chance(0.04):
            return text.upper()
        return text[:1].upper() + text[1:] if self._chance(0.6) else text


def _lower_first(text: str) -> str:
    """Lower the first letter, unless the first word is a name or an abbreviation."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _content_words(text: str) -> list[str]:
    found = [word for word in _WORD.findall(text) if word.lower() not in SMALL_WORDS]
    return found or text.split()
