"""A file that is on its way: kept under another name until all of it is here and right."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Final

from services.mesh.pull.errors import PullError, WrongContentError

_CHUNK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Origin:
    """Which content a part belongs to."""

    url: str
    tag: str = ""
    """The server's ETag, if it is a strong one: two contents never share it."""
    size: int = 0
    """Bytes of the whole; 0 when the server does not say."""
    sha256: str = ""
    """The content's hash by the server's word; empty when it does not say."""


class Partial:
    """The part of a file that is here; held by one process at a time."""

    def __init__(self, target: Path, file: BinaryIO) -> None:
        self._target = target
        self._facts = _facts_path(target)
        self.file = file

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return self.file.seek(0, 2)

    def origin(self) -> Origin | None:
        """Tells what the part is of; None when that is not known, so that it cannot be gone on with."""
        try:
            return Origin(**json.loads(self._facts.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def start(self, origin: Origin) -> None:
        """Throws away what is here and begins anew."""
        self._facts.unlink(missing_ok=True)
        self.file.truncate(0)
        self.file.seek(0)
        self._facts.write_text(json.dumps(asdict(origin)), encoding="utf-8")

    def sha256(self) -> str:
        """Computes the hash of what is here."""
        self.file.flush()
        with Path(self.file.name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def finish(self) -> None:
        """Gives the file its name, all at once."""
        self.file.flush()
        Path(self.file.name).replace(self._target)
        self._facts.unlink(missing_ok=True)

    def discard(self) -> None:
        """Removes it."""
        Path(self.file.name).unlink(missing_ok=True)
        self._facts.unlink(missing_ok=True)


@contextmanager
def partial(target: Path) -> Iterator[Partial]:
    """Opens the part of a file; what is there stays when the block is left by an error, except for wrong content.

    Raises:
        PullError: another process is at it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f"{target.name}.part").open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PullError(f"{target.name} is being pulled already") from None
        part = Partial(target, file)
        try:
            yield part
        except WrongContentError:
            part.discard()
            raise


def copy_into(part: Partial, source: Path) -> Iterator[int]:
    """Copies a file; gives the bytes copied so far, again and again.

    Raises:
        OSError: it cannot be read, or the disk is full.
    """
    part.start(Origin(str(source)))
    copied = 0
    with source.open("rb") as file:
        while block := file.read(_CHUNK):
            part.file.write(block)
            copied += len(block)
            yield copied


def _facts_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")
