"""Looks at every HTTP answer before an SDK reads it: its headers, its form, and how long it gets.

The SDKs send with `httpx2`, Ollama's with `httpx`; both have the same interface, so the guard is told which.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from types import ModuleType
from typing import Any, Final

from services.common.errors import MycelError
from services.provider.failures import malformed
from services.provider.standing import Standing

ANSWER_BYTES: Final = 32 * 1024 * 1024
"""The longest answer that is read."""
EVENT_BYTES: Final = 8 * 1024 * 1024
"""The longest event of a stream: SDKs hold it in memory until it is whole."""
ERROR_BYTES: Final = 1024 * 1024
"""The longest error that is read."""

_STREAMED: Final = frozenset({"text/event-stream", "application/x-ndjson", "application/json-seq"})
_PLAIN: Final = frozenset({"", "text/plain", "application/octet-stream", "application/json", "application/jsonl"})
_REFUSED_FROM: Final = 300
_IDENTITY: Final = frozenset({"", "identity"})


def guard(http: ModuleType, provider: str, standing: Standing) -> Callable[[Any], Awaitable[None]]:
    """Gives the hook that an HTTP client calls with each answer, its body still unread.

    Args:
        http: the client's library.
        provider: the provider's name in the mesh.
        standing: told the headers.
    """

    class Bounded(http.AsyncByteStream):  # type: ignore[misc,name-defined]
        """A body that is not read beyond a limit, and not at all with a limit of 0."""

        def __init__(self, stream: Any, most: int, *, in_lines: bool) -> None:
            self._stream = stream
            self._most = most
            self._in_lines = in_lines
            self._read = self._line = 0

        # Not a generator: SDKs leave off before the end, and each generator left behind costs a task to end it.
        def __aiter__(self) -> AsyncIterator[bytes]:
            self._pieces = aiter(self._stream)
            return self

        async def __anext__(self) -> bytes:
            if not self._most:
                raise StopAsyncIteration
            piece: bytes = await anext(self._pieces)
            self._read += len(piece)
            end = piece.rfind(b"\n")
            self._line = len(piece) - end - 1 if end >= 0 else self._line + len(piece)
            if self._read > self._most or (self._in_lines and self._line > EVENT_BYTES):
                raise malformed(provider, f"its answer is longer than {self._most >> 20} MiB, or a part of it is")
            return piece

        async def aclose(self) -> None:
            await self._stream.aclose()

    async def look(response: Any) -> None:
        standing.saw_headers(response.headers)
        refused = response.status_code >= _REFUSED_FROM
        if not refused:
            _check_form(response, provider)
        elif _packed(response):
            # The status alone says enough, and is kept.
            del response.headers["content-encoding"]
            response.stream = Bounded(response.stream, 0, in_lines=False)
            return
        most = ERROR_BYTES if refused else ANSWER_BYTES
        response.stream = Bounded(response.stream, most, in_lines=_form(response) in _STREAMED)

    return look


async def take_key_off(request: Any) -> None:
    """The hook for servers that are sent no key: SDKs insist on one."""
    request.headers.pop("authorization", None)


def cause(error: BaseException) -> MycelError | None:
    """Finds the guard's own error in what an SDK raised: SDKs wrap what hooks raise."""
    seen = 0
    current: BaseException | None = error
    while current is not None and seen < 5:  # noqa: PLR2004
        if isinstance(current, MycelError):
            return current
        current, seen = current.__cause__ or current.__context__, seen + 1
    return None


def _check_form(response: Any, provider: str) -> None:
    if _packed(response):
        raise malformed(provider, "packed its answer, which was not asked for")
    if _form(response) not in _STREAMED | _PLAIN:
        raise malformed(provider, f"answered with {_form(response)[:100]!r} in place of an answer")


def _packed(response: Any) -> bool:
    """Tells whether a body is packed: a few bytes of it can unpack to any size, and none was asked for."""
    return response.headers.get("content-encoding", "").lower() not in _IDENTITY


def _form(response: Any) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()
