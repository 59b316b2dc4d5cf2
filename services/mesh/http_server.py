"""A small HTTP/1.1 server for loopback and Unix sockets: bounded bodies, bounded connections, a deadline for each step.

It carries the OTLP/HTTP receiver and the control socket of `mycel up`. Parsing is h11's.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import h11

_LOG: Final = logging.getLogger(__name__)
_READ_BYTES: Final = 64 * 1024
_STEP_SECONDS: Final = 10.0
"""How long a peer may take to send a request, and to take the answer."""
_IDLE_SECONDS: Final = 60.0
"""How long a connection may wait for its next request."""
_MAX_CONNECTIONS: Final = 64
MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""The largest request body, before and after decompression."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request, its body read and decompressed."""

    method: str
    path: str
    """With the query, as it came."""
    content_type: str
    """Lower case, without parameters."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """An answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"


Handler = Callable[[Request], Awaitable[Response]]


class _RefusedError(Exception):
    """A request that is answered with a status before the handler sees it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@asynccontextmanager
async def http_server(listen: str, handler: Handler) -> AsyncIterator[str]:
    """Serves until the block is left, and gives the address.

    Args:
        listen: `host:port` (port 0 picks one) or `unix:PATH`.
        handler: answers a request; what it raises is logged and answered with 500.

    Raises:
        OSError: the address cannot be listened on.
    """
    connections = _Connections(handler)
    if listen.startswith("unix:"):
        path = listen.removeprefix("unix:")
        Path(path).unlink(missing_ok=True)  # noqa: ASYNC240 - one system call, before anything is served
        server = await asyncio.start_unix_server(connections.serve, path)
        Path(path).chmod(0o600)  # noqa: ASYNC240
        address = listen
    else:
        host, _, port = listen.rpartition(":")
        server = await asyncio.start_server(connections.serve, host, int(port))
        address = f"{host}:{server.sockets[0].getsockname()[1]}"
    try:
        yield address
    finally:
        server.close()
        await connections.close()


class _Connections:
    """Every open connection, so that none outlives the server."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._tasks) >= _MAX_CONNECTIONS:
            writer.close()
            return
        self._tasks.add(task)
        try:
            await _Connection(reader, writer, self._handler).run()
        except (OSError, TimeoutError, h11.ProtocolError, asyncio.CancelledError):
            pass  # the peer went away, dawdled or does not speak HTTP, or the server ends
        finally:
            self._tasks.discard(task)
            writer.close()

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Connection:
    """One connection: requests one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self._http = h11.Connection(h11.SERVER)

    async def run(self) -> None:
        while True:
            event = await self._next_event(_IDLE_SECONDS)
            if not isinstance(event, h11.Request):
                return
            try:
                async with asyncio.timeout(_STEP_SECONDS):
                    request = await self._read(event)
            except _RefusedError as error:
                await self._send(Response(error.status, str(error).encode(), "text/plain"), close=True)
                return
            await self._send(await self._answer(request))
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _next_event(self, seconds: float) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                self._writer.write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            async with asyncio.timeout(seconds):
                self._http.receive_data(await self._reader.read(_READ_BYTES))
        return event

    async def _read(self, head: h11.Request) -> Request:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        body = bytearray()
        while isinstance(event := await self._next_event(_STEP_SECONDS), h11.Data):
            body += event.data
            if len(body) > MAX_BODY_BYTES:
                raise _RefusedError(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        return Request(
            head.method.decode("latin-1"),
            head.target.decode("latin-1"),
            headers.get("content-type", "").partition(";")[0].strip().lower(),
            _decompressed(bytes(body), headers.get("content-encoding", "identity").lower()),
        )

    async def _answer(self, request: Request) -> Response:
        try:
            return await self._handler(request)
        except Exception:  # noqa: BLE001 - a defect in a handler must not end the server
            _LOG.exception("a request to %s failed", request.path)
            return Response(500, b"internal error", "text/plain")

    async def _send(self, response: Response, *, close: bool = False) -> None:
        headers = [("content-type", response.content_type), ("content-length", str(len(response.body)))]
        if close:
            headers.append(("connection", "close"))
        for event in (
            h11.Response(status_code=response.status, headers=headers),
            h11.Data(data=response.body),
            h11.EndOfMessage(),
        ):
            self._writer.write(self._http.send(event) or b"")
        async with asyncio.timeout(_STEP_SECONDS):
            await self._writer.drain()


def _decompressed(body: bytes, encoding: str) -> bytes:
    if encoding == "identity":
        return body
    if encoding not in ("gzip", "deflate"):
        raise _RefusedError(415, f"content-encoding {encoding!r} is not known here")
    # 32 more than the window's bits: the format, gzip or zlib, is told from its first bytes.
    stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = stream.decompress(body, MAX_BODY_BYTES)
    except zlib.error as error:
        raise _RefusedError(400, f"the body is not {encoding}") from error
    if stream.unconsumed_tail:
        raise _RefusedError(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
    return plain
