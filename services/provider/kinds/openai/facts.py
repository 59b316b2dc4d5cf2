"""What OpenAI's models can do, by the family that a model's name begins with.

A name that is not known is let through in everything: any server may speak this API, and it says itself what it cannot.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from services.provider.capabilities import Capabilities

_K: Final = 1000

# No model of this API goes on with an assistant's message; it answers with a new one.
_ANY: Final = Capabilities(embeddings=True)
_KNOWN: Final = replace(_ANY, embeddings=False, stops=4, reasoning_effort=False)
_EMBEDDER: Final = Capabilities(context=8192, chat=False, embeddings=True, tools=False, images=False)
_REASONING: Final = replace(
    _KNOWN,
    sampling=False,
    penalties=False,
    logprobs=False,
    logit_bias=False,
    answers=1,
    stops=0,
    reasoning_effort=True,
    parallel_tool_calls=False,
)
_BLIND: Final = {"images": False, "image_urls": False, "image_detail": False}

_FAMILIES: Final[tuple[tuple[str, Capabilities], ...]] = (
    (r"text-embedding-", _EMBEDDER),
    (r"gpt-4o|chatgpt-4o", replace(_KNOWN, context=128 * _K, max_output=16_384)),
    (r"gpt-4\.1", replace(_KNOWN, context=1_047_576, max_output=32_768)),
    (
        r"gpt-4-turbo",
        replace(_KNOWN, context=128 * _K, max_output=4096, json_schema=False, strict_tools=False),
    ),
    (
        r"gpt-4(?:-\d{4})?$",
        replace(
            _KNOWN, context=8192, max_output=8192, json_object=False, json_schema=False, strict_tools=False, **_BLIND
        ),
    ),
    (
        r"gpt-3(?:\.|)5-turbo",
        replace(_KNOWN, context=16_385, max_output=4096, json_schema=False, strict_tools=False, **_BLIND),
    ),
    (
        r"o1-mini|o1-preview",
        replace(
            _REASONING,
            context=128 * _K,
            max_output=65_536,
            tools=False,
            json_object=False,
            json_schema=False,
            reasoning_effort=False,
            **_BLIND,
        ),
    ),
    (r"o3-mini", replace(_REASONING, context=200 * _K, max_output=100 * _K, **_BLIND)),
    (r"o\d", replace(_REASONING, context=200 * _K, max_output=100 * _K)),
    (r"gpt-(?:[5-9]|\d\d)", replace(_REASONING, context=400 * _K, max_output=128 * _K, parallel_tool_calls=True)),
)


def facts(model: str) -> Capabilities:
    """Gives what is known of a model by the provider's name of it."""
    return next((known for pattern, known in _FAMILIES if re.match(pattern, model)), _ANY)


def takes_developer(model: str) -> bool:
    """Tells whether a model knows the developer's role; others get a system message."""
    return any(re.match(pattern, model) for pattern, known in _FAMILIES if known.chat)
