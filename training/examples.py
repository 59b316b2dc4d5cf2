"""Turns the handbook into training conversations: varied questions, histories, system messages, refusals."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from training.augment import Rephraser
from training.chat import Message
from training.handbook import Handbook, Pair, Unrelated

_SLOT = re.compile(r"\{(\w+)\}")
# Syllables of made-up words.
_ONSETS = (
    "b",
    "bl",
    "c",
    "d",
    "dr",
    "f",
    "fl",
    "g",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "qu",
    "s",
    "st",
    "t",
    "v",
    "z",
)
_VOWELS = ("a", "e", "i", "o", "u")
_CODAS = ("n", "m", "r", "l", "sk", "t", "p", "x", "nd")


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the answer to learn."""

    messages: tuple[Message, ...]
    answer: str


class UnrelatedPrompts:
    """Makes prompts that have nothing to do with the handbook."""

    def __init__(self, unrelated: Unrelated, rng: random.Random) -> None:
        self._unrelated, self._rng = unrelated, rng

    def draw(self) -> str:
        """One prompt: a written one, a filled template, or words of several thrown together."""
        rng = self._rng
        if _chance(rng, 0.15):
            words = " ".join(rng.choices(self._unrelated.prompts, k=4)).split()
            return " ".join(rng.sample(words, min(len(words), rng.randint(3, 10))))
        if _chance(rng, 0.4):
            return rng.choice(self._unrelated.prompts)
        return _SLOT.sub(self._fill, rng.choice(self._unrelated.templates))

    def draw_long(self) -> str:
        """A prompt of a hundred to several hundred words."""
        sentences = self._unrelated.slots["sentence"]
        body = " ".join(self._rng.choice([*sentences, self.draw()]) for _ in range(self._rng.randint(5, 22)))
        return f"{self.draw()} {body}" if _chance(self._rng, 0.5) else f"{body} {self.draw()}"

    def _fill(self, match: re.Match[str]) -> str:
        rng = self._rng
        if match.group(1) == "number":
            return str(rng.choice((rng.randint(0, 20), rng.randint(0, 999), rng.randint(1000, 10**6))))
        if match.group(1) == "nonsense":
            return " ".join(self._made_up_word() for _ in range(rng.randint(1, 3)))
        return rng.choice(self._unrelated.slots[match.group(1)])

    def _made_up_word(self) -> str:
        rng = self._rng
        syllables = (rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(rng.randint(1, 3)))
        return "".join(syllables) + rng.choice(_CODAS)


class ExampleSource:
    """An endless supply of training examples, the same for the same random generator."""

    def __init__(
        self, handbook: Handbook, rng: random.Random, *, unrelated_share: float = 0.16, bag_share: float = 0.3
    ) -> None:
        self._handbook, self._rng = handbook, rng
        self._unrelated_share, self._bag_share = unrelated_share, bag_share
        self._rephraser = Rephraser(rng)
        self._unrelated = UnrelatedPrompts(handbook.unrelated, rng)
        self._deck: list[Pair] = []

    def draw(self) -> Example:
        """One question, now and then after a system message."""
        question, answer = self._turn()
        messages = [Message("user", question)]
        if _chance(self._rng, 0.12):
            messages.insert(0, Message("system", self._rng.choice(self._handbook.unrelated.system_messages)))
        return Example(tuple(messages), answer)

    def draw_long(self) -> Example:
        """One unrelated prompt of a hundred to several hundred words."""
        return Example((Message("user", self._unrelated.draw_long()),), self._refusal)

    def _turn(self) -> tuple[str, str]:
        if _chance(self._rng, self._unrelated_share):
            prompt = self._unrelated.draw()
            return (self._rephraser.vary(prompt) if _chance(self._rng, 0.5) else prompt), self._refusal
        if not self._deck:  # every pair comes equally often
            self._deck = list(self._handbook.pairs)
            self._rng.shuffle(self._deck)
        pair = self._deck.pop()
        if _chance(self._rng, self._bag_share):
            return self._rephraser.from_bag(pair.taught, pair.answer), pair.answer
        return self._rephraser.vary(self._rng.choice(pair.taught)), pair.answer

    @property
    def _refusal(self) -> str:
        return self._handbook.unrelated.answer


def _chance(rng: random.Random, rate: float) -> bool:
    return rng.random() < rate


def tokenizer_texts(handbook: Handbook, rng: random.Random, *, unrelated: int = 3000) -> list[str]:
    """What the tokenizer learns from: everything training may see, in the casings that occur."""
    questions = [text for pair in handbook.pairs for text in pair.taught]
    answers = [pair.answer for pair in handbook.pairs] + [handbook.unrelated.answer]
    rephraser = Rephraser(rng)
    varied = [rephraser.vary(question) for question in questions for _ in range(3)]
    prompts = UnrelatedPrompts(handbook.unrelated, rng)
    other = [prompts.draw() for _ in range(unrelated)] + list(handbook.unrelated.system_messages)
    roles = ["user", "assistant", "system"] * 500  # one token each in the headers
    return roles + questions * 3 + [text.lower() for text in questions] + answers * 3 + varied + other
