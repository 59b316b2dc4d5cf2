"""One HTTP server that plays many upstreams, good and bad, down to the socket: the first part of a path says which.

`http://127.0.0.1:PORT/reset/v1/chat/completions` is OpenAI's API at the upstream `reset`. The APIs themselves are in
`speech.py`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from tests.benchmarks.reliability import speech

_RESET: Final = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Exchange:
    """One request, and the connection that it came on."""

    kind: str
    body: dict[str, Any]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    keep: bool = True
    """Whether another request may follow on the connection."""

    async def begin(self) -> None:
        """Sends the head of a streamed answer."""
        lines = f"content-type: {speech.content_type(self.kind)}\r\ntransfer-encoding: chunked\r\n\r\n"
        await self._write(f"HTTP/1.1 200 OK\r\n{lines}".encode())

    async def send(self, *parts: str) -> None:
        """Sends parts of a streamed answer."""
        data = "".join(parts).encode()
        await self._write(b"%x\r\n%s\r\n" % (len(data), data))

    async def end(self) -> None:
        await self._write(b"0\r\n\r\n")

    async def refuse(self, status: int, headers: str = "") -> None:
        """Sends an error."""
        body = speech.error_body(self.kind, status)
        lines = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        await self._write(f"HTTP/1.1 {status} Status\r\n{lines}".encode() + body)

    async def until_hung_up(self) -> None:
        """Waits until the client closes the connection."""
        self.keep = False
        while await self.reader.read(4096):
            pass

    def reset(self) -> None:
        """Breaks the connection off with a TCP reset."""
        self.keep = False
        connection: socket.socket = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.writer.transport.abort()

    async def _write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


Behaviour: TypeAlias = Callable[[Exchange], Awaitable[None]]


class Upstream:
    """The server: what each upstream does, and when it was called."""

    def __init__(self) -> None:
        self.behaviours: dict[str, Behaviour] = {}
        self.calls: defaultdict[str, list[float]] = defaultdict(list)
        """The times of the calls that reached each upstream, on `time.perf_counter`."""
        self.url = ""
        self._serving: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    def at(self, name: str, behaviour: Behaviour) -> str:
        """Adds an upstream, and gives its address."""
        self.behaviours[name] = behaviour
        return f"{self.url}/{name}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            del self._serving[task]
            writer.close()

    async def aclose(self) -> None:
        """Hangs up on every client."""
        serving = dict(self._serving)
        for writer in serving.values():
            writer.transport.abort()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        length = next((line.partition(":")[2] for line in head if line.startswith("content-length:")), "0")
        body = json.loads(await reader.readexactly(int(length)) or b"{}")
        path = head[0].split(" ")[1].partition("?")[0]
        name = path.split("/")[1]
        self.calls[name].append(time.perf_counter())
        exchange = Exchange(speech.kind_of(path), body, reader, writer)
        await self.behaviours[name](exchange)
        return exchange.keep


@asynccontextmanager
async def running_upstream() -> AsyncIterator[Upstream]:
    """Runs the server on a free port."""
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, backlog=1024)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield upstream
    finally:
        server.close()
        await upstream.aclose()


def says(count: int, *, first_after: Callable[[], float] = lambda: 0.0) -> Behaviour:
    """A healthy model: an answer of that many tokens, its first one after a time in seconds."""
    answer = speech.tokens(count)

    async def speak(exchange: Exchange) -> None:
        spoken = speech.rest(exchange.kind, exchange.body, answer)
        await exchange.begin()
        events = speech.opening(exchange.kind)
        seconds = first_after()
        if seconds:
            if events:
                await exchange.send(*events)
            await asyncio.sleep(seconds)
            events = []
        events += [speech.piece(exchange.kind, token) for token in spoken]
        await exchange.send(*events, *speech.closing(exchange.kind, len(spoken)))
        await exchange.end()

    return speak


def dies_after(count: int, of: int) -> Behaviour:
    """A model whose connection breaks off after so many tokens of its answer, in the middle of the next event."""
    answer = speech.tokens(of)

    async def speak(exchange: Exchange) -> None:
        await exchange.begin()
        events = [speech.piece(exchange.kind, token) for token in answer[:count]]
        await exchange.send(*speech.opening(exchange.kind), *events, speech.piece(exchange.kind, " lost")[:20])
        exchange.keep = False

    return speak
