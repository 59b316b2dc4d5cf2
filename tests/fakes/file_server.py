"""A server of one file over real HTTP, with Range, a hub's redirect, and connections that break in the middle."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_RANGE = re.compile(r"bytes=(\d+)-")


@dataclass(slots=True)
class FileServer:
    """What it serves, and what it was asked."""

    content: bytes
    url: str = ""
    tag: str = '"first"'
    """The ETag; empty for none."""
    ranges: bool = True
    breaks_after: list[int] = field(default_factory=list)
    """For each request in turn: the bytes after which the connection breaks."""
    statuses: list[int] = field(default_factory=list)
    """For each request in turn: the status that it gets instead; 0 for none."""
    hub_hash: str = ""
    """The hash that the hub tells; empty for the right one."""
    sent_from: list[int] = field(default_factory=list)
    """For each request that got content: the byte that it began with."""
    keys: list[tuple[str, str]] = field(default_factory=list)
    """For each request: its path and what it brought as authorization."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@contextmanager
def file_server(content: bytes) -> Iterator[FileServer]:
    """Serves `/any/name` as it is, and `/org/repo/resolve/…` by a redirect to another host, as a hub does."""
    told = FileServer(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.keys.append((self.path, self.headers.get("Authorization", "")))
            if told.statuses and (status := told.statuses.pop(0)):
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif "/resolve/" in self.path:
                self.send_response(302)
                self.send_header("X-Linked-Etag", f'"{told.hub_hash or told.sha256}"')
                self.send_header("Location", told.url.replace("127.0.0.1", "localhost") + "/content")
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                _send_content(self, told)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()


def _send_content(handler: BaseHTTPRequestHandler, told: FileServer) -> None:
    asked = _RANGE.fullmatch(handler.headers.get("Range", ""))
    same = handler.headers.get("If-Range") == told.tag
    first = int(asked[1]) if asked and same and told.ranges else 0
    body = told.content[first:]
    handler.send_response(206 if first else 200)
    if first:
        handler.send_header("Content-Range", f"bytes {first}-{len(told.content) - 1}/{len(told.content)}")
    if told.tag:
        handler.send_header("ETag", told.tag)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    told.sent_from.append(first)
    cut = told.breaks_after.pop(0) if told.breaks_after else len(body)
    handler.wfile.write(body[:cut])
    handler.close_connection = True
