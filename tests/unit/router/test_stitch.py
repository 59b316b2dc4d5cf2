"""Cutting off what a continuation repeats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.stitch import Stitcher

_ANSWER = "The quick brown fox jumps over the lazy dog. Then it sleeps until the evening."


def _join(sent: str, pieces: list[str]) -> str:
    stitcher = Stitcher(sent)
    return sent + "".join(stitcher.add(piece) for piece in pieces) + stitcher.finish()


@pytest.mark.parametrize("repeated", [0, 9, 20, 44])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_what_is_repeated_is_cut(repeated: int, size: int) -> None:
    cut = 45
    rest = _ANSWER[cut - repeated :]
    pieces = [rest[at : at + size] for at in range(0, len(rest), size)]
    assert _join(_ANSWER[:cut], pieces) == _ANSWER


def test_an_answer_that_starts_over_is_cut() -> None:
    assert _join(_ANSWER[:30], [_ANSWER[:10], _ANSWER[10:]]) == _ANSWER


def test_a_chance_agreement_of_a_few_letters_stays() -> None:
    assert _join("I said: ha ha", [" ha ha, he said."]) == "I said: ha ha ha ha, he said."


def test_new_text_is_not_held_back() -> None:
    assert Stitcher(_ANSWER[:45]).add("Zebra") == "Zebra"


def test_a_continuation_that_ends_while_undecided_is_not_lost() -> None:
    assert _join(_ANSWER[:45], ["Then"]) == _ANSWER[:45] + "Then"


@given(st.text("abc ", max_size=60), st.lists(st.text("abc ", min_size=1, max_size=5), max_size=12))
def test_only_a_repeated_end_is_ever_cut(sent: str, pieces: list[str]) -> None:
    joined, rest = _join(sent, pieces), "".join(pieces)
    cut = len(sent) + len(rest) - len(joined)
    assert joined == sent + rest[cut:]
    assert sent.endswith(rest[:cut])
