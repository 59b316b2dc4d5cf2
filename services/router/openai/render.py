"""Writes answers as OpenAI's JSON, whole or as server-sent events."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final

from mycel.chat.v1 import chat_service_pb2 as chat_service
from mycel.chat.v1 import types_pb2 as chat

from services.common.errors import MycelError
from services.router.catalogue import ModelEntry
from services.router.engine import Opened

DONE: Final = b"data: [DONE]\n\n"

_FINISH: Final = {
    chat.FINISH_REASON_STOP: "stop",
    chat.FINISH_REASON_LENGTH: "length",
    chat.FINISH_REASON_TOOL_CALLS: "tool_calls",
    chat.FINISH_REASON_CONTENT_FILTER: "content_filter",
}


def completion(opened: Opened, choices: Iterable[chat.Choice], usage: chat.Usage) -> bytes:
    """Gives a `chat.completion` object."""
    return _dump(
        {
            "id": opened.id,
            "object": "chat.completion",
            "created": opened.created,
            "model": opened.model,
            "choices": [_choice(choice) for choice in choices],
            "usage": _usage(usage),
        }
    )


class ChunkWriter:
    """Writes the `chat.completion.chunk` events of one answer."""

    def __init__(self, opened: Opened, *, include_usage: bool) -> None:
        self._head = {
            "id": opened.id,
            "object": "chat.completion.chunk",
            "created": opened.created,
            "model": opened.model,
        }
        self._include_usage = include_usage
        self._begun: set[int] = set()

    def delta(self, delta: chat.ChoiceDelta) -> bytes:
        """Writes a piece of an answer; the first of each answer names the role."""
        body: dict[str, Any] = {}
        if delta.index not in self._begun:
            self._begun.add(delta.index)
            body = {"role": "assistant", "content": ""}
        if delta.text:
            body["content"] = delta.text
        if delta.refusal:
            body["refusal"] = delta.refusal
        if delta.tool_calls:
            body["tool_calls"] = [_call_delta(piece) for piece in delta.tool_calls]
        choice = {
            "index": delta.index,
            "delta": body,
            "logprobs": _logprobs(delta.logprobs),
            "finish_reason": _FINISH.get(delta.finish_reason),
        }
        return self._event([choice], None)

    def usage(self, usage: chat.Usage) -> bytes:
        """Writes the last chunk, when `stream_options.include_usage` asks for it; else nothing."""
        return self._event([], usage) if self._include_usage else b""

    def _event(self, choices: list[dict[str, Any]], usage: chat.Usage | None) -> bytes:
        chunk: dict[str, Any] = {**self._head, "choices": choices}
        if self._include_usage:
            chunk["usage"] = None if usage is None else _usage(usage)
        return b"data: " + _dump(chunk) + b"\n\n"


def error_event(error: MycelError) -> bytes:
    """Writes an error that ends a stream, in the form that OpenAI's SDKs raise."""
    body = {
        "message": error.message,
        "type": error.meaning.wire_type,
        "param": error.field or None,
        "code": error.wire_code,
    }
    return b"data: " + _dump({"error": body}) + b"\n\n"


def switch_comment(switch: chat_service.ProviderSwitched) -> bytes:
    """Announces that another model goes on, as a comment, which readers of server-sent events ignore."""
    told = _dump({"model": switch.model, "provider": switch.provider, "reason": switch.reason})
    return b": mycel provider_switched " + told + b"\n\n"


def models(entries: Iterable[ModelEntry], created: int) -> bytes:
    """Gives the list of models."""
    return _dump({"object": "list", "data": [_model(entry, created) for entry in entries]})


def model(entry: ModelEntry, created: int) -> bytes:
    """Gives one model."""
    return _dump(_model(entry, created))


def embeddings(vectors: Sequence[Sequence[float]], name: str, tokens: int, *, as_base64: bool) -> bytes:
    """Gives the vectors of texts, as numbers or as base64 of little-endian 32-bit floats."""
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            if as_base64
            else list(vector),
        }
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return _dump({"object": "list", "data": data, "model": name, "usage": usage})


def _model(entry: ModelEntry, created: int) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": entry.name,
        "object": "model",
        "created": created,
        "owned_by": entry.owner,
        "description": entry.description,
        "available": entry.available,
    }
    if entry.unavailable_reason:
        body["unavailable_reason"] = entry.unavailable_reason
    return body


def _choice(choice: chat.Choice) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(part.text for part in choice.message.content) or None,
        "refusal": choice.message.refusal or None,
    }
    if choice.message.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments_json},
            }
            for call in choice.message.tool_calls
        ]
    elif message["content"] is None and message["refusal"] is None:
        message["content"] = ""
    return {
        "index": choice.index,
        "message": message,
        "logprobs": _logprobs(choice.logprobs),
        "finish_reason": _FINISH.get(choice.finish_reason),
    }


def _call_delta(piece: chat.ToolCallDelta) -> dict[str, Any]:
    body: dict[str, Any] = {"index": piece.index, "function": {"arguments": piece.arguments_json}}
    if piece.id:
        body |= {"id": piece.id, "type": "function"}
    if piece.name:
        body["function"]["name"] = piece.name
    return body


def _logprobs(tokens: Sequence[chat.TokenLogprob]) -> dict[str, Any] | None:
    if not tokens:
        return None
    return {
        "content": [
            {**_token(token), "top_logprobs": [_token(alternative) for alternative in token.top]} for token in tokens
        ]
    }


def _token(token: chat.TokenLogprob | chat.TopLogprob) -> dict[str, Any]:
    return {
        "token": token.token,
        "logprob": token.logprob,
        "bytes": list(token.token_bytes or token.token.encode()),
    }


def _usage(usage: chat.Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_prompt_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _dump(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
