"""What comes back from Triton, whatever tensors it came in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenFact:
    """A token with its log probability."""

    text: str
    logprob: float
    raw: bytes


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A generated token and the likeliest ones at its place."""

    sampled: TokenFact
    top: tuple[TokenFact, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer."""

    text: str
    """Text to append; never a part of a character."""
    new_tokens: int
    """Tokens generated since the piece before."""
    prompt_tokens: int
    cached_tokens: int = 0
    """Tokens of the prompt that the engine had read before; 0 as well when it does not tell."""
    finish_reason: str = ""
    """`stop` or `length` on the last piece; empty before."""
    logprobs: tuple[TokenRecord, ...] = ()
