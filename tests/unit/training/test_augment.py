"""Variants of questions are made up the same way for the same seed, and never come out empty."""

from __future__ import annotations

import random

from training.augment import Rephraser
from training.examples import UnrelatedPrompts
from training.handbook import load_handbook


def variants(seed: int) -> list[str]:
    rephraser = Rephraser(random.Random(seed))
    return [rephraser.vary(pair.question) for pair in load_handbook().pairs for _ in range(5)]


def test_the_same_seed_gives_the_same_variants() -> None:
    assert variants(1) == variants(1)
    assert variants(1) != variants(2)


def test_variants_hold_words_and_mostly_differ_from_the_question() -> None:
    questions = {pair.question for pair in load_handbook().pairs}
    made = variants(3)
    assert all(text.strip() for text in made)
    assert sum(text not in questions for text in made) > len(made) / 2


def test_unrelated_prompts_leave_no_slot_open() -> None:
    prompts = UnrelatedPrompts(load_handbook().unrelated, random.Random(4))
    drawn = [prompts.draw() for _ in range(500)] + [prompts.draw_long() for _ in range(20)]
    assert [text for text in drawn if "{" in text] == []


def test_words_from_the_bag_belong_to_the_pair() -> None:
    rephraser = Rephraser(random.Random(5))
    pair = load_handbook().pairs[0]
    bags = [rephraser.from_bag(pair.taught, pair.answer).lower() for _ in range(50)]
    known = " ".join((*pair.taught, pair.answer)).lower()
    assert all(any(word.strip("?.!") in known for word in bag.split()) for bag in bags)
