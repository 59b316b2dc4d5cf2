"""Ollama's API on the wire, written against its public reference: what `wire_server` has to send."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.fakes.wire_server import Reply, json_reply

MODEL = "llama3.2"


def line(content: str = "", **fields: Any) -> str:
    """Gives one line of an answer; fields of the message are given with `message_` before their name."""
    message = {"role": "assistant", "content": content}
    message |= {name.removeprefix("message_"): value for name, value in fields.items() if name.startswith("message_")}
    rest = {name: value for name, value in fields.items() if not name.startswith("message_")}
    head = {"model": MODEL, "created_at": "2026-01-01T00:00:00.0Z", "message": message, "done": False}
    return json.dumps({**head, **rest}) + "\n"


def end(reason: str = "stop", prompt: int = 5, completion: int = 2, **fields: Any) -> str:
    """Gives the line that closes an answer."""
    counts = {"total_duration": 1, "prompt_eval_count": prompt, "eval_count": completion}
    return line("", done=True, done_reason=reason, **counts, **fields)


def call(name: str, arguments: Any, call_id: str | None = None) -> dict[str, Any]:
    """Gives a call of a tool."""
    return {"function": {"name": name, "arguments": arguments}, **({"id": call_id} if call_id else {})}


def stream(parts: Sequence[str], **options: Any) -> Reply:
    """Gives a streamed answer."""
    return Reply(content_type="application/x-ndjson", parts=parts, **options)


def say(*pieces: str, finish: str = "stop", **options: Any) -> Reply:
    """Gives an answer of text."""
    return stream([*(line(piece) for piece in pieces), end(finish)], **options)


def error(status: int, message: str, **headers: str) -> Reply:
    """Gives an error."""
    return json_reply(status, {"error": message}, **headers)


def shown(*capabilities: str) -> Reply:
    """Gives the answer of `/api/show`."""
    return json_reply(200, {"capabilities": list(capabilities), "details": {}, "model_info": {}})
