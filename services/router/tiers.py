"""Sorts a prompt into a tier by a plain rule that can be said in one line.

Points are given for what makes prompts hard; the sum decides. This is the rule that applies while nothing is learned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mycel.chat.v1 import types_pb2 as chat


class Tier(StrEnum):
    """How hard a prompt is, or `pinned` when the caller named the model."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    PINNED = "pinned"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A tier and why."""

    tier: Tier
    explanation: str


_MEDIUM_FROM: Final = 2
_HIGH_FROM: Final = 4

_REASONING: Final = re.compile(
    r"\b(prove|proof|derive|derivation|step[- ]by[- ]step|theorem|optimi[sz]e|trade-?offs?|architect(?:ure)?|design"
    r"|refactor|debug|analy[sz]e|critique|evaluate|algorithm|complexity|reason(?:ing)?|strategy|why does)\b",
    re.IGNORECASE,
)
_CODE: Final = re.compile(
    r"```|\bdef \w+\(|\bclass \w+[:({]|#include\b|\bSELECT\b.+\bFROM\b|\bfunction\s+\w+\(|=>|\bstack trace\b"
    r"|Traceback \(most recent call last\)",
    re.IGNORECASE | re.DOTALL,
)
_MATHS: Final = re.compile(
    r"\\(?:frac|int|sum|sqrt|begin)\b|[∑∫√∂≤≥∀∃]|\b(?:integral|derivative|matrix|eigenvalue|probability|equation)s?\b"
    r"|\d\s*[*^/=]\s*\d",
    re.IGNORECASE,
)
_STRUCTURE: Final = re.compile(r"^\s*(?:\d+[.)]|[-*])\s", re.MULTILINE)

_LONG_WORDS: Final = 120
_VERY_LONG_WORDS: Final = 600
_MANY_TURNS: Final = 6
_MANY_PARTS: Final = 3


def judge(value: chat.ChatInput) -> Verdict:
    """Sorts an input into low, medium or high.

    Only the last user message is weighed, plus what the whole conversation brings along: turns, tools, images and a
    schema to follow.
    """
    text = _last_user_text(value)
    return _verdict([*_signs_of_text(text), *_signs_of_call(value)], len(text.split()))


def _signs_of_text(text: str) -> Iterator[tuple[int, str]]:
    words = len(text.split())
    if words > _LONG_WORDS:
        yield (3 if words > _VERY_LONG_WORDS else 2), f"{words} words"
    reasoning = {match.group(0).lower() for match in _REASONING.finditer(text)}
    if reasoning:
        yield min(2 * len(reasoning), 4), "asks to " + "/".join(sorted(reasoning)[:3])
    if _CODE.search(text):
        yield 2, "code"
    if _MATHS.search(text):
        yield 2, "maths"
    parts = len(_STRUCTURE.findall(text)) + text.count("?")
    if parts >= _MANY_PARTS:
        yield 1, f"{parts} parts"


def _signs_of_call(value: chat.ChatInput) -> Iterator[tuple[int, str]]:
    if value.tools:
        yield 2, f"{len(value.tools)} tools"
    if any(part.WhichOneof("part") == "image" for message in value.messages for part in message.content):
        yield 2, "images"
    if value.response_format.WhichOneof("format") == "json_schema":
        yield 1, "a schema to follow"
    if len(value.messages) > _MANY_TURNS:
        yield 1, f"{len(value.messages)} turns"


def _verdict(signs: list[tuple[int, str]], words: int) -> Verdict:
    points = sum(weight for weight, _ in signs)
    tier = Tier.HIGH if points >= _HIGH_FROM else Tier.MEDIUM if points >= _MEDIUM_FROM else Tier.LOW
    found = ", ".join(f"{sign} +{weight}" for weight, sign in signs) or f"{words} words and nothing hard in them"
    return Verdict(tier, f"{tier}: {points} points ({found}); medium from {_MEDIUM_FROM}, high from {_HIGH_FROM}")


def _last_user_text(value: chat.ChatInput) -> str:
    for message in reversed(value.messages):
        if message.role == chat.ROLE_USER:
            return "\n".join(part.text for part in message.content if part.WhichOneof("part") == "text")
    return ""
