"""The handbook is complete, its held-out phrasings stay out of training, and the shipped model is what it says."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from training.handbook import HANDBOOK_DIR, Handbook, HandbookError, load_handbook

MODEL = HANDBOOK_DIR / "handbook-llama.gguf"


@pytest.fixture(scope="module")
def handbook() -> Handbook:
    return load_handbook()


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    return {name: field.contents() for name, field in GGUFReader(MODEL).fields.items()}


def plain(text: str) -> str:
    """What is left of a phrasing when case and punctuation do not count."""
    return " ".join(re.findall(r"\w+", text.lower()))


def test_it_holds_enough_questions_and_phrasings(handbook: Handbook) -> None:
    assert len(handbook.pairs) >= 120
    assert [pair.id for pair in handbook.pairs if len(pair.taught) < 4] == []
    assert [pair.id for pair in handbook.pairs if not pair.held_out] == []


def test_no_phrasing_stands_twice_and_none_held_out_is_taught(handbook: Handbook) -> None:
    phrasings = Counter(plain(text) for pair in handbook.pairs for text in (*pair.taught, *pair.held_out))
    assert [text for text, count in phrasings.items() if count > 1] == []


def test_held_out_unrelated_prompts_are_not_taught(handbook: Handbook) -> None:
    taught = {plain(text) for text in handbook.unrelated.prompts}
    assert [text for text in handbook.unrelated.held_out if plain(text) in taught] == []


def test_answers_are_short_and_differ(handbook: Handbook) -> None:
    answers = [pair.answer for pair in handbook.pairs]
    assert len({plain(answer) for answer in answers}) == len(answers)
    assert [pair.id for pair in handbook.pairs if not 8 <= len(pair.answer.split()) <= 60] == []


def test_every_template_slot_can_be_filled(handbook: Handbook) -> None:
    known = {*handbook.unrelated.slots, "number", "nonsense"}
    used = {slot for template in handbook.unrelated.templates for slot in re.findall(r"\{(\w+)\}", template)}
    assert used <= known


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("topic: [", "not YAML"),
        ("- a", "mapping"),
        ("topic: T\npairs: 3", "pairs must be a list"),
        ("topic: T\npairs:\n  - {id: a, question: Q, phrasings: [P], held_out: [H]}", "pair 1: answer"),
        ("topic: T\npairs:\n  - {id: a, question: Q, answer: A, phrasings: [1], held_out: [H]}", "pair 1: phrasings"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, content: str, message: str) -> None:
    questions = tmp_path / "questions"
    questions.mkdir()
    (questions / "wrong.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(HandbookError, match=message):
        load_handbook(tmp_path)


def test_the_shipped_model_is_small() -> None:
    assert MODEL.stat().st_size <= 8_000_000


def test_the_shipped_model_says_what_it_is(metadata: dict[str, Any]) -> None:
    assert metadata["general.architecture"] == "llama"
    assert metadata["general.name"] == "Mycel Handbook Llama"
    assert "not a general model" in metadata["general.description"]


def test_the_shipped_model_brings_its_tokenizer_and_template(metadata: dict[str, Any]) -> None:
    template = (HANDBOOK_DIR.parent.parent / "training" / "chat_template.jinja").read_text(encoding="utf-8").strip()
    assert metadata["tokenizer.chat_template"] == template
    assert metadata["tokenizer.ggml.model"] == "gpt2"
    tokens = metadata["tokenizer.ggml.tokens"]
    assert tokens[metadata["tokenizer.ggml.bos_token_id"]] == "<|begin_of_text|>"
    assert tokens[metadata["tokenizer.ggml.eos_token_id"]] == "<|eot_id|>"
