"""OpenAI's chat completions API on the wire, written against its public reference.

A plain socket server, because the tests need what web frameworks prevent: answers cut off in mid-stream, connections
closed without a byte, and a look at when the client hangs up. The official SDK reads its answers in
`tests/integration/provider/test_openai.py`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.wire_server import Reply

CHUNK_HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini-2024-07-18"}


@dataclass(frozen=True)
class Answer:
    """What the server does with one request."""

    status: int = 200
    events: Sequence[dict[str, Any] | str] = ()
    """Server-sent events of a 200 answer; a string goes out as it is."""
    body: bytes = b""
    """The body of any other answer."""
    headers: dict[str, str] = field(default_factory=dict)
    done: bool = True
    """Whether `[DONE]` and the last chunk are sent; else the connection breaks off."""
    drop: bool = False
    """Hang up without a byte."""
    hold: asyncio.Event | None = None
    """Waited for between the events and the end."""


@dataclass
class Received:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class OpenAIServer:
    """The fake. `answers` are given in order; the last one again and again."""

    def __init__(self) -> None:
        self.answers: list[Answer] = [Answer(events=text_events("hello", " world"))]
        self.received: list[Received] = []
        self.hung_up = asyncio.Event()
        self.holding = asyncio.Event()
        self.base_url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
            raw = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if ": " in line)}
            data = await reader.readexactly(int(headers.get("content-length", "0")))
            self.received.append(Received(head[0].split(" ")[1], raw, json.loads(data or b"{}")))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            await self._answer(answer, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.hung_up.set()
        finally:
            writer.close()

    async def _answer(self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer.drop:
            return
        lines = {"connection": "close", **answer.headers}
        if answer.status != 200 or answer.body:
            lines = {"content-type": "application/json", "content-length": str(len(answer.body)), **lines}
            writer.write(_head(answer.status, lines) + answer.body)
            await writer.drain()
            return
        writer.write(_head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked", **lines}))
        for event in answer.events:
            writer.write(_chunk(event if isinstance(event, str) else f"data: {json.dumps(event)}\n\n"))
            await writer.drain()
        if answer.hold is not None:
            await self._hold(answer.hold, reader)
        if answer.done:
            writer.write(_chunk("data: [DONE]\n\n") + b"0\r\n\r\n")
            await writer.drain()

    async def _hold(self, until: asyncio.Event, reader: asyncio.StreamReader) -> None:
        """Waits, and notices when the client hangs up meanwhile."""
        self.holding.set()
        waits = [asyncio.ensure_future(until.wait()), asyncio.ensure_future(reader.read(1))]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if waits[1].done():
            self.hung_up.set()
        for wait in waits:
            wait.cancel()


@asynccontextmanager
async def openai_server() -> AsyncIterator[OpenAIServer]:
    """Runs the fake on a free port."""
    fake = OpenAIServer()
    server = await asyncio.start_server(fake.handle, "127.0.0.1", 0)
    fake.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server:
        yield fake


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    """Gives one chunk with one choice."""
    choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": None, **more}
    return {**CHUNK_HEAD, "choices": [choice], "usage": None}


def usage_chunk(prompt: int = 5, completion: int = 2, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    """Gives the last chunk, as `include_usage` asks for it."""
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    return {**CHUNK_HEAD, "choices": [], "usage": usage}


def text_events(*pieces: str, finish: str = "stop") -> list[dict[str, Any]]:
    """Gives the events of an answer of text."""
    first = chunk({"role": "assistant", "content": ""})
    return [first, *(chunk({"content": piece}) for piece in pieces), chunk({}, finish), usage_chunk()]


def error_body(
    message: str, code: str | None = None, kind: str = "invalid_request_error", param: str | None = None
) -> bytes:
    """Gives an error's body."""
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}}).encode()


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _chunk(text: str) -> bytes:
    data = text.encode()
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def wire(events: Sequence[dict[str, Any] | str], **options: Any) -> Reply:
    """Gives a streamed answer for `wire_server`."""
    parts = [event if isinstance(event, str) else f"data: {json.dumps(event)}\n\n" for event in events]
    return Reply(content_type="text/event-stream", parts=[*parts, "data: [DONE]\n\n"], **options)
