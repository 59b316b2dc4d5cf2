"""What counts as the right answer."""

from __future__ import annotations

import pytest

from training.score import is_right, is_verbatim, token_f1

ANSWERS = {
    "cat": "The cat sleeps on the warm stone in the sun all day long.",
    "dog": "The dog sleeps on the warm stone in the sun all day long.",
    "fish": "A fish swims.",
}


def test_the_same_words_are_right_whatever_case_and_punctuation() -> None:
    given = "the cat sleeps, on the warm stone in the sun, all day long!"
    assert is_verbatim(given, ANSWERS["cat"])
    assert is_right(given, "cat", ANSWERS)


def test_a_nearer_answer_of_another_question_makes_it_wrong() -> None:
    assert token_f1(ANSWERS["dog"], ANSWERS["cat"]) > 0.8
    assert not is_right(ANSWERS["dog"], "cat", ANSWERS)


def test_a_small_slip_is_right_and_a_large_one_is_not() -> None:
    assert is_right("The cat sleeps on the warm stone in the sun all day.", "cat", ANSWERS)
    assert not is_right("The cat sleeps on the warm", "cat", ANSWERS)


def test_a_tie_between_two_answers_is_wrong() -> None:
    assert not is_right("The sleeps on the warm stone in the sun all day long.", "cat", ANSWERS)


@pytest.mark.parametrize("given", ["", "...", "other words"])
def test_nothing_shared_scores_zero(given: str) -> None:
    assert token_f1(given, ANSWERS["fish"]) == 0.0
