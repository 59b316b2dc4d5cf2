"""What the guard refuses, and what it lets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.guard import conflict


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        ("What is the limit for 5 users?", "What is the limit for 50 users?", "numbers"),
        ("Convert 1.5 km to miles", "Convert 15 km to miles", "numbers"),
        ("Which two models are fastest?", "Which three models are fastest?", "numbers"),
        ("Which models were out in 2023?", "Which models were out?", "numbers"),
        ("Should I cache tool calls?", "Should I not cache tool calls?", "negation"),
        ("Why doesn't the cache hit?", "Why does the cache hit?", "negation"),
        ("Why doesn\u2019t the cache hit?", "Why does the cache hit?", "negation"),
        ("Can I run it with a GPU?", "Can I run it without a GPU?", "negation"),
        ("How do I enable the cache?", "How do I disable the cache?", "opposites"),
        ("What should I do before an exam?", "What should I do after an exam?", "opposites"),
        ("Which model is the cheapest?", "Which model is the most expensive?", "opposites"),
        ("Who makes Claude?", "Who makes Gemini?", "names"),
        ("Is Anna older than Bob?", "Is Bob older than Anna?", "order"),
        ("How do I convert CSV to JSON?", "How do I convert JSON to CSV?", "order"),
    ],
)
def test_refused(one: str, other: str, reason: str):
    assert conflict(one, other) == reason
    assert conflict(other, one) == reason


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is a semantic cache?", "What does semantic cache mean?"),
        ("How do I run Llama on my own GPU?", "How can I run Llama on my own GPUs?"),
        ("Which port does Mycel listen on?", "On which port does Mycel listen?"),
        ("What are 12 good names?", "What are twelve good names?"),
        ("Isn't a cache not needed?", "Is a cache needed?"),
        ("what is openai?", "What is OpenAI?"),
        ("", ""),
    ],
)
def test_let_through(one: str, other: str):
    assert conflict(one, other) is None
    assert conflict(other, one) is None


@given(st.text(), st.text())
def test_any_text_is_judged_alike_both_ways_and_is_at_peace_with_itself(one: str, other: str):
    assert conflict(one, one) is None
    assert (conflict(one, other) is None) == (conflict(other, one) is None)
