"""HTTP over a Unix socket, for short questions to a process on this machine. Every call blocks."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path


class UnixHttpError(Exception):
    """Nobody answered."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(path: Path, target: str, *, method: str = "GET", timeout: float = 2.0) -> tuple[int, bytes]:
    """Asks one question, and gives the status and the body of the answer.

    Args:
        path: the socket.
        target: path and query.
        method: GET or POST; without a body.
        timeout: seconds for each step.

    Raises:
        UnixHttpError: nobody answers there.
    """
    connection = _UnixConnection(path, timeout)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise UnixHttpError(f"{path}: {error}") from error
    finally:
        connection.close()
