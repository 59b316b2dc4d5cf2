"""Downloads a file in as many goes as it takes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

import httpx2 as httpx

from services.mesh.pull.errors import PullError, WrongContentError
from services.mesh.pull.partial import Origin, Partial
from services.mesh.pull.source import WebSource

Report = Callable[[int, int], None]
"""Told the bytes that are here and those of the whole; 0 when not known."""

_TIMEOUT: Final = httpx.Timeout(30.0)
_FRUITLESS_GOES: Final = 5
_FIRST_PAUSE: Final = 0.5
_OK: Final = 200
_PART: Final = 206
_NO_SUCH_RANGE: Final = 416
_BROKEN: Final = 500
_BUSY: Final = frozenset({408, 429})
_SHA256: Final = re.compile(r'"?([0-9a-f]{64})"?')
_RANGE: Final = re.compile(r"bytes (?P<first>\d+)-\d+/(?P<size>\d+|\*)")
_EXPLAINED: Final = {
    401: "the hub wants a token: set HF_TOKEN",
    403: "access is refused; the model's terms may have to be accepted on its page, and HF_TOKEN set",
    404: "there is no such file",
}


class _LaterError(Exception):
    """It may come to pass later."""


def download(source: WebSource, part: Partial, report: Report, *, pause: float = _FIRST_PAUSE) -> Origin:
    """Downloads all of a file, going on where an earlier go broke off; gives what the server said of it.

    Args:
        source: the file.
        part: where it goes.
        report: told how far it is.
        pause: seconds before the second go in a row without a byte; doubled with each.

    Raises:
        PullError: it does not come; what has come is kept.
        WrongContentError: the server sends something else than it says.
    """
    fruitless = 0
    with httpx.Client(follow_redirects=True, timeout=_TIMEOUT) as client:
        while True:
            before = part.size
            try:
                return _go(client, source, part, report)
            except (httpx.TransportError, _LaterError) as error:
                fruitless = 0 if part.size > before else fruitless + 1
                if fruitless >= _FRUITLESS_GOES:
                    why = str(error) or type(error).__name__
                    raise PullError(f"{source.url}: {why}; the same command goes on with it later") from error
            except httpx.HTTPError as error:
                raise PullError(f"{source.url}: {error}") from error
            if fruitless:
                time.sleep(pause * 2 ** (fruitless - 1))


def _go(client: httpx.Client, source: WebSource, part: Partial, report: Report) -> Origin:
    """Takes what the server sends, from where the part ends."""
    origin, here = part.origin(), part.size
    headers = {**source.headers, "Accept-Encoding": "identity"}
    # Only a strong ETag tells that the content is still the same one.
    if origin is not None and origin.url == source.url and origin.tag and here:
        if here == origin.size:
            return origin
        headers |= {"Range": f"bytes={here}-", "If-Range": origin.tag}
    with client.stream("GET", source.url, headers=headers) as answer:
        _check_status(source, answer)
        found = _origin(source, answer)
        if answer.status_code == _PART:
            _check_range(answer, here)
        else:
            part.start(found)
        for block in answer.iter_raw():
            part.file.write(block)
            report(part.file.tell(), found.size)
    if found.size and part.size < found.size:
        raise _LaterError(f"it broke off after {part.size} of {found.size} bytes")
    if found.size and part.size > found.size:
        raise WrongContentError(f"{source.url}: {part.size} bytes came instead of {found.size}")
    return found


def _check_status(source: WebSource, answer: httpx.Response) -> None:
    code = answer.status_code
    if code in (_OK, _PART):
        return
    if code >= _BROKEN or code in _BUSY:
        raise _LaterError(f"the server answers {code}")
    if code == _NO_SUCH_RANGE:
        raise WrongContentError(f"{source.url}: the server has less of it than came before; pull it again")
    raise PullError(f"{source.url}: {_EXPLAINED.get(code, 'the server refuses')} ({code})")


def _check_range(answer: httpx.Response, here: int) -> None:
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if found is None or int(found["first"]) != here:
        raise WrongContentError(f"{answer.url}: the server sent another part than it was asked for; pull it again")


def _origin(source: WebSource, answer: httpx.Response) -> Origin:
    """Reads what the server says of the whole file. The hub tells the hash before it redirects to the content."""
    linked = next((one for one in (*answer.history, answer) if "X-Linked-Etag" in one.headers), None)
    known = _SHA256.fullmatch(linked.headers["X-Linked-Etag"]) if linked else None
    tag = answer.headers.get("ETag", "")
    length = answer.headers.get("Content-Length", "0")
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    size = found["size"] if found else length
    return Origin(
        url=source.url,
        tag="" if tag.startswith("W/") else tag,
        size=int(size) if size.isdigit() else 0,
        sha256=known[1] if known else "",
    )
