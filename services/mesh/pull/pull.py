"""Brings a model's file into a folder, checks it, and says how it is served."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.mesh.pull.download import Report, download
from services.mesh.pull.errors import PullError, WrongContentError
from services.mesh.pull.gguf_file import GgufFacts, NotGgufError, read_gguf
from services.mesh.pull.partial import Origin, Partial, copy_into, partial
from services.mesh.pull.source import FileSource, Source

_GGUF: Final = ".gguf"
_SAFETENSORS: Final = ".safetensors"


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model's file that is here."""

    path: Path
    sha256: str
    facts: GgufFacts | None
    """None for safetensors, which Triton's vLLM backend reads."""


def pull(source: Source, folder: Path, report: Report, *, sha256: str = "", replace: bool = False) -> Pulled:
    """Brings a file.

    Args:
        source: where from.
        folder: where to; made when it is missing.
        report: told how far it is.
        sha256: the content's hash, in hexadecimal; empty when it is not known.
        replace: whether a file of that name that is here already may be replaced.

    Raises:
        PullError: it does not come, is not whole, or is not what it should be.
    """
    target = folder / source.name
    if target.suffix not in (_GGUF, _SAFETENSORS):
        raise PullError(f"{source.name}: a model is a {_GGUF} or {_SAFETENSORS} file")
    if target.exists() and not replace:
        raise PullError(f"{target} is here already; --replace pulls it again")
    try:
        with partial(target) as part:
            origin = _bring(source, part, report)
            found = part.sha256()
            _check_hash(found, sha256.lower(), "--sha256")
            _check_hash(found, origin.sha256, "the hub")
            facts = _check_gguf(part) if target.suffix == _GGUF else None
            part.finish()
    except OSError as error:
        raise PullError(f"{target}: {error.strerror or error}") from error
    return Pulled(target, found, facts)


def _bring(source: Source, part: Partial, report: Report) -> Origin:
    if not isinstance(source, FileSource):
        return download(source, part, _with_room(part, report))
    size = source.path.stat().st_size
    _check_room(part, size)
    for copied in copy_into(part, source.path):
        report(copied, size)
    return Origin(str(source.path), size=size)


def _with_room(part: Partial, report: Report) -> Report:
    """Makes sure, with the first block, that the rest has room as well."""
    checked = False

    def checking(here: int, size: int) -> None:
        nonlocal checked
        if not checked:
            checked = True
            _check_room(part, size - here)
        report(here, size)

    return checking


def _check_room(part: Partial, needed: int) -> None:
    free = shutil.disk_usage(Path(part.file.name).parent).free
    if needed > free:
        raise PullError(f"{needed:,} bytes are needed and {free:,} are free in {Path(part.file.name).parent}")


def _check_hash(found: str, expected: str, whose: str) -> None:
    if expected and found != expected:
        raise WrongContentError(f"the content's sha256 is {found}, {whose} says {expected}; it was removed")


def _check_gguf(part: Partial) -> GgufFacts:
    part.file.flush()
    try:
        return read_gguf(Path(part.file.name))
    except NotGgufError as error:
        raise WrongContentError(f"{error}; it was removed") from error
