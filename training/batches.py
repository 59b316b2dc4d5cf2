"""Packs examples into fixed-size arrays: several short conversations a row, kept apart by the attention mask."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from training.chat import END_OF_TURN, render_prompt
from training.examples import Example, ExampleSource

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

# What a token of the question weighs in the loss, next to 1 for a token of the answer: enough to learn which
# words go together, too little to learn the questions by heart.
QUESTION_WEIGHT = 0.1
# The first tokens of an answer decide which answer it is; the rest is recitation.
DECIDING_TOKENS, DECIDING_WEIGHT = 6, 2.0
# Engines differ in whether they add a begin token to a prompt that has one: some prompts get two.
SECOND_BEGIN_RATE = 0.1
# In this share of prompts, this share of the long words is cut in two.
CUT_PROMPTS_RATE, WORD_CUT_RATE = 0.5, 0.15

_LONG_WORD = re.compile(r"[A-Za-z]{5,}")


class Batch(NamedTuple):
    """Rows of packed conversations, all arrays [rows, time].

    `targets` are the next tokens, `weights` their share in the loss, `segments` the number of the conversation
    within its row (0 is padding).
    """

    tokens: Ints
    targets: Ints
    weights: Floats
    segments: Ints


class BatchMaker:
    """Draws examples and packs them."""

    def __init__(self, source: ExampleSource, tokenizer: Tokenizer, rng: random.Random) -> None:
        self._source, self._tokenizer, self._rng = source, tokenizer, rng
        end_of_turn = tokenizer.token_to_id(END_OF_TURN)
        if end_of_turn is None:
            raise ValueError(f"the tokenizer lacks {END_OF_TURN}")
        self._end_of_turn = end_of_turn

    def make(
        self, rows: int, time: int, *, answer_tokens: int | None = None, joined: float = 0.0, long: float = 0.0
    ) -> Batch:
        """A batch of `rows` rows of `time` tokens.

        With `answer_tokens`, answers are cut there: the batch then holds more questions. `joined` is the share of
        rows in which the examples are the turns of one conversation, `long` that of long prompts among the examples.
        """
        size = (rows, time)
        batch = Batch(
            tokens=np.zeros(size, np.int32),
            targets=np.zeros(size, np.int32),
            weights=np.zeros(size, np.float32),
            segments=np.zeros(size, np.int32),
        )
        for row in range(rows):
            stream = self._row(time + 1, answer_tokens, self._rng.random() < joined, long)
            end = len(stream.tokens) - 1
            batch.tokens[row, :end] = stream.tokens[:-1]
            batch.targets[row, :end] = stream.tokens[1:]
            batch.weights[row, :end] = stream.weights[1:]
            batch.segments[row, :end] = stream.segments[:-1]
        return batch

    def _row(self, time: int, answer_tokens: int | None, joined: bool, long: float) -> _Stream:
        """As many examples as fit into `time` tokens."""
        stream, segment = _Stream([], [], []), 0
        while True:
            example = self._source.draw_long() if self._rng.random() < long else self._source.draw()
            prompt, answer = self._encode(example, answer_tokens)
            if len(prompt) + len(answer) > time:
                continue
            if joined and stream.tokens:
                prompt = prompt[1:]  # the begin token stands only before the first turn
            else:
                segment += 1
            if len(stream.tokens) + len(prompt) + len(answer) > time:
                return stream
            stream.add(prompt, answer, segment)

    def _encode(self, example: Example, answer_tokens: int | None) -> tuple[list[int], list[int]]:
        prompt = [token for piece in self._pieces(example) for token in self._tokenizer.encode(piece).ids]
        answer: list[int] = [*self._tokenizer.encode(example.answer).ids, self._end_of_turn]
        if self._rng.random() < SECOND_BEGIN_RATE:
            prompt = [prompt[0], *prompt]
        return prompt, answer[:answer_tokens]

    def _pieces(self, example: Example) -> list[str]:
        """The rendered prompt, in some prompts cut inside words.

        A word cut in two becomes other, shorter tokens: so the network learns what words are made of, and copes with
        forms of a word that it never saw.
        """
        text = render_prompt(list(example.messages))
        if self._rng.random() >= CUT_PROMPTS_RATE:
            return [text]
        question = example.messages[-1].content.strip()
        start = text.rindex(question)
        cuts = [
            start + match.start() + self._rng.randrange(2, len(match.group()) - 1)
            for match in _LONG_WORD.finditer(question)
            if self._rng.random() < WORD_CUT_RATE
        ]
        return [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]


class _Stream(NamedTuple):
    """Tokens of a row, each with its weight as a target and its segment."""

    tokens: list[int]
    weights: list[float]
    segments: list[int]

    def add(self, prompt: list[int], answer: list[int], segment: int) -> None:
        deciding = min(DECIDING_TOKENS, len(answer))
        self.tokens.extend((*prompt, *answer))
        # The first token of a prompt cannot be foreseen.
        self.weights.extend((0.0, *[QUESTION_WEIGHT] * (len(prompt) - 1)))
        self.weights.extend((*[DECIDING_WEIGHT] * deciding, *[1.0] * (len(answer) - deciding)))
        self.segments.extend([segment] * (len(prompt) + len(answer)))
