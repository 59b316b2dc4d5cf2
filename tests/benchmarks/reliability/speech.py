"""What a deterministic model says in the wire format of each of the four kinds, and where it goes on after a break."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from tests.fakes import anthropic_wire, azure_wire, ollama_wire, openai_server

KINDS: Final = ("openai", "azure_openai", "anthropic", "ollama")
MODELS: Final = {
    "openai": "gpt-4o-mini",
    "azure_openai": "gpt-4o-mini",
    "anthropic": "claude-haiku-4-5",
    "ollama": "llama3.2",
}
PROMPT_TOKENS: Final = 7
REPEATED: Final = 4
"""How many words a model repeats that was told in words to go on."""


def tokens(count: int) -> list[str]:
    """The answer: that many different words, each one token."""
    return ["w000", *(f" w{number:03}" for number in range(1, count))]


def rest(kind: str, body: dict[str, Any], answer: Sequence[str]) -> list[str]:
    """What of the answer the model says to a request.

    Given the beginning as its own last words, it goes on exactly after it. Told in words to go on, it repeats the last
    words first, as models do. Asked the bare question, it answers from the beginning.
    """
    messages = [message for message in body["messages"] if message["role"] in ("user", "assistant")]
    said = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    if not said:
        return list(answer)
    begun = _text(messages[said[-1]])
    left = list(answer)
    while left and begun:
        if len(left[0]) <= len(begun):
            begun = begun[len(left[0]) :]
            left.pop(0)
        else:
            # The beginning ends inside a word.
            left[0], begun = left[0][len(begun) :], ""
    exactly = said[-1] == len(messages) - 1
    spoken = len(answer) - len(left)
    return left if exactly else [*answer[max(spoken - REPEATED, 0) : spoken], *left]


def opening(kind: str) -> list[str]:
    """The events that come before the first token."""
    match kind:
        case "openai":
            return [_sse(openai_server.chunk({"role": "assistant", "content": ""}))]
        case "azure_openai":
            return [_sse(azure_wire.OPENING), _sse(openai_server.chunk({"role": "assistant", "content": ""}))]
        case "anthropic":
            return [anthropic_wire.start(PROMPT_TOKENS), anthropic_wire.text_block(0)[0], anthropic_wire.event("ping")]
        case _:
            return []


def piece(kind: str, text: str) -> str:
    """The event of one token."""
    match kind:
        case "openai" | "azure_openai":
            return _sse(openai_server.chunk({"content": text}))
        case "anthropic":
            return anthropic_wire.text_block(0, text)[2]
        case _:
            return ollama_wire.line(text)


def closing(kind: str, count: int) -> list[str]:
    """The events that end an answer of that many tokens."""
    match kind:
        case "openai" | "azure_openai":
            usage = openai_server.usage_chunk(PROMPT_TOKENS, count)
            return [_sse(openai_server.chunk({}, "stop")), _sse(usage), "data: [DONE]\n\n"]
        case "anthropic":
            return [anthropic_wire.text_block(0)[-1], *anthropic_wire.end("end_turn", count)]
        case _:
            return [ollama_wire.end("stop", PROMPT_TOKENS, count)]


def content_type(kind: str) -> str:
    return "application/x-ndjson" if kind == "ollama" else "text/event-stream; charset=utf-8"


def garbage(kind: str) -> str:
    """An event that is not JSON."""
    match kind:
        case "anthropic":
            return "event: message_start\ndata: {not json\n\n"
        case "ollama":
            return "{not json\n"
        case _:
            return "data: {not json\n\n"


def error_body(kind: str, status: int) -> bytes:
    """An error in the kind's own form."""
    message = f"the upstream answers {status}"
    match kind:
        case "anthropic":
            word = {429: "rate_limit_error", 529: "overloaded_error"}.get(status, "api_error")
            body: Any = {"type": "error", "error": {"type": word, "message": message}, "request_id": "req_1"}
        case "ollama":
            body = {"error": message}
        case _:
            body = {"error": {"message": message, "type": "server_error", "param": None, "code": None}}
    return json.dumps(body).encode()


def kind_of(path: str) -> str:
    """Which API a request's path belongs to."""
    if "/openai/deployments/" in path:
        return "azure_openai"
    if path.endswith("/v1/messages"):
        return "anthropic"
    return "ollama" if path.endswith("/api/chat") else "openai"


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _sse(event: dict[str, Any]) -> str:
    return f"data: {json.dumps(event)}\n\n"
