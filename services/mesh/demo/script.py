"""What the demo asks, and what must come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.mesh.client import Caller
from services.mesh.demo.calls import Asked, by_grpc, by_grpc_web, by_openai

_QUESTION: Final = "What is a semantic cache?"
_SAME_MEANING: Final = "Define semantic cache"
_UNRELATED: Final = "How do I run the tests of Mycel?"
_EASY: Final = "What is a tokenizer?"
_HARD: Final = (
    "Analyse step by step the trade-offs of three designs of a distributed rate limiter: derive the complexity of each "
    "algorithm, and prove which one never lets more than its limit through."
)


@dataclass(frozen=True, slots=True)
class Scene:
    """One question of the demo."""

    title: str
    prompt: str
    door: Callable[[Caller, str], Asked]
    cache: str
    """What the cache must say."""
    tier: str = ""
    """The tier that must be reported; empty for any."""
    same_text: bool = False
    """Whether the answer must be that of the first question."""

    def problem(self, asked: Asked, first: Asked) -> str:
        """Tells what is not as it should be; empty when all is."""
        if not asked.text.strip():
            return "the answer is empty"
        if asked.cache != self.cache:
            return f"cache: {asked.cache}, not {self.cache}"
        if self.tier and asked.tier != self.tier:
            return f"tier: {asked.tier}, not {self.tier}"
        if self.same_text and asked.text != first.text:
            return "the answer is not that of the first question"
        return "" if asked.trace_id else "no trace"


SCENES: Final = (
    Scene("a question from the handbook", _QUESTION, by_grpc, "miss"),
    Scene("the same again", _QUESTION, by_grpc, "exact", same_text=True),
    Scene("the same in other words", _SAME_MEANING, by_grpc, "semantic", same_text=True),
    Scene("an unrelated one", _UNRELATED, by_grpc, "miss"),
    Scene("an easy prompt", _EASY, by_grpc, "miss", tier="low"),
    Scene("a hard prompt", _HARD, by_grpc, "miss", tier="high"),
    Scene("the first by the OpenAI SDK", _QUESTION, by_openai, "exact", same_text=True),
    Scene("the first by gRPC-Web", _QUESTION, by_grpc_web, "exact", same_text=True),
)
"""In this order: the later ones build on what the earlier ones left in the cache."""
