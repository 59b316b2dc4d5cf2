"""An HTTP server that does what a test says, down to the socket: the base of the fakes of paid providers.

It is written on plain sockets, because the tests need what web frameworks prevent: answers cut off in mid-stream,
connections closed without a byte, floods, and a look at when the client hangs up.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

_FLOOD_PIECE = b"x" * (1024 * 1024)


@dataclass(frozen=True)
class Reply:
    """What the server does with one request."""

    status: int = 200
    content_type: str = "application/json"
    parts: Sequence[str] = ()
    """Parts of a streamed body, each sent by itself."""
    body: bytes | None = None
    """A whole body, in place of parts."""
    headers: dict[str, str] = field(default_factory=dict)
    whole: bool = True
    """Whether the body is ended as HTTP wants it; else the connection breaks off."""
    drop: bool = False
    """Hang up without a byte."""
    hold: asyncio.Event | None = None
    """Waited for between the parts and the end."""
    flood: int = 0
    """So many MiB without an end of line are sent after the parts."""


@dataclass
class Received:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class WireServer:
    """The server. `replies` are given in order; the last one again and again."""

    def __init__(self, replies: Sequence[Reply] = ()) -> None:
        self.replies: list[Reply] = list(replies)
        self.at: dict[str, Reply] = {}
        """Replies for a path, before `replies`."""
        self.received: list[Received] = []
        self.hung_up = asyncio.Event()
        self.holding = asyncio.Event()
        self.url = ""
        self._open: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.hung_up.set()
        finally:
            del self._open[task]
            writer.close()

    async def hang_up(self) -> None:
        """Closes every connection."""
        tasks = list(self._open)
        for writer in self._open.values():
            writer.close()
        if tasks:
            await asyncio.wait(tasks, timeout=5)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; tells whether another may follow on the connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
        headers = {name.lower(): value for name, value in headers.items()}
        data = await reader.readexactly(int(headers.get("content-length", "0")))
        path = head[0].split(" ")[1]
        self.received.append(Received(path, headers, json.loads(data or b"{}")))
        reply = self.at.get(path) or (self.replies.pop(0) if len(self.replies) > 1 else self.replies[0])
        if reply.drop:
            return False
        await self._send(reply, reader, writer)
        return reply.whole and reply.headers.get("connection") != "close"

    async def _send(self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = {"content-type": reply.content_type, **reply.headers}
        if reply.body is not None:
            writer.write(_head(reply.status, {**lines, "content-length": str(len(reply.body))}) + reply.body)
            await writer.drain()
            return
        writer.write(_head(reply.status, {**lines, "transfer-encoding": "chunked"}))
        for part in reply.parts:
            writer.write(_chunk(part.encode()))
            await writer.drain()
        for _ in range(reply.flood):
            writer.write(_chunk(_FLOOD_PIECE))
            await writer.drain()
        if reply.hold is not None:
            await self._hold(reply.hold, reader)
        if reply.whole:
            writer.write(b"0\r\n\r\n")
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
async def wire_server(*replies: Reply) -> AsyncIterator[WireServer]:
    """Runs the server on a free port."""
    fake = WireServer(replies)
    server = await asyncio.start_server(fake.handle, "127.0.0.1", 0)
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield fake
    finally:
        server.close()
        await fake.hang_up()


def json_reply(status: int, body: Any, **headers: str) -> Reply:
    """Gives a reply of one JSON document; `_` in a header's name stands for `-`."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, body=json.dumps(body).encode(), headers=told)


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
