"""The control socket of `mycel up`: what `mycel status` and `mycel trace` ask. Only the owner can open it.

GET /state         the parts
GET /traces/last   the last call
GET /traces/ID     one call; ID may be the beginning of an id
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from services.mesh.http_server import Request, Response
from services.mesh.otlp.store import TraceStore
from services.mesh.otlp.tree import trace_json
from services.mesh.unix_http import UnixHttpError, ask


@dataclass(frozen=True, slots=True)
class ControlServer:
    """Answers the control socket's requests."""

    store: TraceStore
    state: Callable[[], Mapping[str, object]]
    """Gives the parts' states, as plain values."""

    async def handle(self, request: Request) -> Response:
        """Answers a request; see the module's list."""
        if request.method != "GET":
            return _refused(HTTPStatus.METHOD_NOT_ALLOWED, "only GET")
        if request.path == "/state":
            return _json(self.state())
        if request.path == "/traces/last":
            last = self.store.latest()
            return self._trace(last) if last else _refused(HTTPStatus.NOT_FOUND, "no call has been traced yet")
        if request.path.startswith("/traces/"):
            return self._find(request.path.removeprefix("/traces/").lower())
        return _refused(HTTPStatus.NOT_FOUND, "nothing is here")

    def _find(self, prefix: str) -> Response:
        found = self.store.find(prefix) if prefix else []
        if not found:
            return _refused(HTTPStatus.NOT_FOUND, f"no trace {prefix} is kept; the last {len(self.store)} are")
        if len(found) > 1:
            return _refused(HTTPStatus.CONFLICT, f"{len(found)} traces begin with {prefix}")
        return self._trace(found[0])

    def _trace(self, trace_id: str) -> Response:
        return _json(trace_json(trace_id, self.store.get(trace_id), self.store.dropped(trace_id)))


class ControlError(Exception):
    """The running mesh did not give what was asked for; the message is one line."""


@dataclass(frozen=True, slots=True)
class ControlClient:
    """Asks a running mesh. Every call blocks, for a few seconds at most."""

    socket: Path

    def state(self) -> dict[str, Any]:
        """Gives the parts' states.

        Raises:
            ControlError: the mesh does not answer.
        """
        return self._get("/state")

    def trace(self, trace_id: str = "last") -> dict[str, Any]:
        """Gives a trace by its id or the beginning of it, or the last one (see `trace_json`).

        Raises:
            ControlError: the mesh does not answer, or has no such trace, or more than one.
        """
        return self._get(f"/traces/{trace_id}")

    def _get(self, target: str) -> dict[str, Any]:
        try:
            status, body = ask(self.socket, target, timeout=5.0)
        except UnixHttpError as error:
            raise ControlError(f"the mesh does not answer on its control socket: {error}") from error
        if status != HTTPStatus.OK:
            raise ControlError(body.decode("utf-8", "replace"))
        answer: dict[str, Any] = json.loads(body)
        return answer


def _json(values: Mapping[str, object]) -> Response:
    return Response(body=json.dumps(values).encode())


def _refused(status: HTTPStatus, reason: str) -> Response:
    return Response(int(status), reason.encode(), "text/plain")
