"""Packs examples into fixed-size arrays: several short conversations a row, kept apart by the attention mask."""

from __future__ import annotations

import random
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

    def make(self, rows: int, time: int, *, answer_tokens: int | None, long: bool = False) -> Batch:
        """A batch of `rows` rows of `time` tokens.

        With `answer_tokens`, answers are cut there: the batch then holds more questions. Examples longer than a row
        are left out.
        """
        size = (rows, time)
        batch = Batch(
            tokens=np.zeros(size, np.int32),
            targets=np.zeros(size, np.int32),
            weights=np.zeros(size, np.float32),
            segments=np.zeros(size, np.int32),
        )
        for row in range(rows):
            start = segment = 0
            while True:
                prompt, answer = self._encode(self._source.draw(long=long), answer_tokens)
                end = start + len(prompt) + len(answer) - 1
                if end - start > time:
                    continue
                if end > time:
                    break
                segment += 1
                _place(batch, row, start, segment, prompt, answer)
                start = end
        return batch

    def _encode(self, example: Example, answer_tokens: int | None) -> tuple[list[int], list[int]]:
        prompt: list[int] = self._tokenizer.encode(render_prompt(list(example.messages))).ids
        answer: list[int] = [*self._tokenizer.encode(example.answer).ids, self._end_of_turn]
        if self._rng.random() < SECOND_BEGIN_RATE:
            prompt = [prompt[0], *prompt]
        return prompt, answer[:answer_tokens]


def _place(batch: Batch, row: int, start: int, segment: int, prompt: list[int], answer: list[int]) -> None:
    tokens = np.array([*prompt, *answer], np.int32)
    end = start + len(tokens) - 1
    first_answer = start + len(prompt) - 1
    batch.tokens[row, start:end] = tokens[:-1]
    batch.targets[row, start:end] = tokens[1:]
    batch.weights[row, start:first_answer] = QUESTION_WEIGHT
    batch.weights[row, first_answer:end] = 1.0
    batch.weights[row, first_answer : min(first_answer + DECIDING_TOKENS, end)] = DECIDING_WEIGHT
    batch.segments[row, start:end] = segment
