"""Anthropic's Messages API on the wire, written against its public reference: what `wire_server` has to send."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.fakes.wire_server import Reply, json_reply

MODEL = "claude-haiku-4-5-20251001"


def event(kind: str, **fields: Any) -> str:
    """Gives one server-sent event; its type stands in the event and in the data."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"


def start(prompt: int = 5, **usage: int) -> str:
    """Gives the event that opens a message."""
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": prompt, "output_tokens": 1, **usage},
    }
    return event("message_start", message=message)


def text_block(index: int, *pieces: str) -> list[str]:
    """Gives the events of a block of text."""
    return [
        event("content_block_start", index=index, content_block={"type": "text", "text": ""}),
        event("ping"),
        *(event("content_block_delta", index=index, delta={"type": "text_delta", "text": piece}) for piece in pieces),
        event("content_block_stop", index=index),
    ]


def tool_block(index: int, call_id: str, name: str, *pieces: str) -> list[str]:
    """Gives the events of a block that calls a tool."""
    block = {"type": "tool_use", "id": call_id, "name": name, "input": {}}
    return [
        event("content_block_start", index=index, content_block=block),
        *(
            event("content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": piece})
            for piece in pieces
        ),
        event("content_block_stop", index=index),
    ]


def end(reason: str, completion: int = 2, **more: Any) -> list[str]:
    """Gives the events that close a message."""
    details = {"stop_details": more.pop("stop_details")} if "stop_details" in more else {}
    delta = {"stop_reason": reason, "stop_sequence": None, **details}
    return [event("message_delta", delta=delta, usage={"output_tokens": completion, **more}), event("message_stop")]


def stream(parts: Sequence[str], **options: Any) -> Reply:
    """Gives a streamed answer."""
    return Reply(content_type="text/event-stream; charset=utf-8", parts=parts, **options)


def say(*pieces: str, finish: str = "end_turn", **options: Any) -> Reply:
    """Gives an answer of text."""
    return stream([start(), *text_block(0, *pieces), *end(finish)], **options)


def error(status: int, kind: str, message: str, **headers: str) -> Reply:
    """Gives an error."""
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    return json_reply(status, body, **headers)
