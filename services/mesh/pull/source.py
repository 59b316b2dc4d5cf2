"""Where a model comes from: an address, a file, or a name on the hub."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from services.common.settings import SettingsError, secret
from services.mesh.pull.errors import PullError

DEFAULT_HUB: Final = "https://huggingface.co"
HUB_VARIABLE: Final = "HF_ENDPOINT"
"""Names another hub, such as a mirror of one's own."""
_TOKEN: Final = "HF_TOKEN"  # noqa: S105 - its name
_PART: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_HUB_NAME: Final = re.compile(rf"(?P<repo>{_PART}/{_PART}?)(@(?P<revision>[A-Za-z0-9._-]+))?/(?P<file>.+)")
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file on this machine."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True, slots=True)
class WebSource:
    """A file on a server."""

    url: str
    name: str
    """What the file is called here."""
    headers: Mapping[str, str]
    """What the server is sent; a key is not passed on to another one that it names."""

    def __repr__(self) -> str:
        return f"WebSource(url={self.url!r}, name={self.name!r})"


Source = FileSource | WebSource


def parse_source(text: str, *, hashed: bool) -> Source:
    """Reads what a person gave.

    Args:
        text: `https://…`, a path, or `org/repo/file.gguf` (`org/repo@revision/file.gguf`) on the hub. An existing file
            wins over a name on the hub.
        hashed: whether the content's hash is known, so that a connection which can be tampered with is good enough.

    Raises:
        PullError: it is none of these; the message says what would be.
    """
    if "://" in text:
        return _web(text, hashed=hashed)
    path = Path(text).expanduser()
    if path.is_file():
        return FileSource(path)
    found = _HUB_NAME.fullmatch(text)
    if found is None or text.startswith((".", "~", "/")):
        raise PullError(f"{text!r}: there is no such file, and it is no https:// address or org/repo/file.gguf either")
    return _hub(found["repo"], found["revision"] or "main", found["file"])


def _web(text: str, *, hashed: bool) -> WebSource:
    address = urlsplit(text)
    if address.scheme not in ("https", "http") or not address.hostname:
        raise PullError(f"{text!r}: an address begins with https://")
    if address.scheme == "http" and not hashed and address.hostname not in _LOOPBACK:
        raise PullError(f"{text!r}: without https:// give the content's hash with --sha256")
    return WebSource(text, _file_name(unquote(address.path)), {})


def _hub(repo: str, revision: str, file: str) -> WebSource:
    hub = os.environ.get(HUB_VARIABLE, DEFAULT_HUB).rstrip("/")
    try:
        token = secret(_TOKEN)
    except SettingsError as error:
        raise PullError(str(error)) from error
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    return WebSource(f"{hub}/{repo}/resolve/{revision}/{quote(file)}", _file_name(file), headers)


def _file_name(path: str) -> str:
    name = PurePosixPath(path).name
    if not _FILE_NAME.fullmatch(name):
        raise PullError(f"{path!r} does not end with a file's name: letters, digits and ._+-")
    return name
