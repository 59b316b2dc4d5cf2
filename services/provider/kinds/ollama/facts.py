"""What Ollama's models can do. Which of them call tools, see or think, the server knows: it refuses the rest."""

from __future__ import annotations

from typing import Final

from services.provider.capabilities import Capabilities

_ALL: Final = Capabilities(
    embeddings=True,
    tool_choice=False,
    parallel_tool_calls=False,
    strict_tools=False,
    image_urls=False,
    image_detail=False,
    logit_bias=False,
    answers=1,
    # Its templates leave an assistant's last message open.
    prefix_continuation=True,
    names=False,
)


def facts(model: str) -> Capabilities:
    """Gives what is known of a model by the provider's name of it."""
    del model
    return _ALL
