"""The parts' log files: one each, appended to, with one older file kept."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_MAX_BYTES: Final = 16 * 1024 * 1024
_LOOK_SECONDS: Final = 10.0
_TAIL_BYTES: Final = 8 * 1024


def open_log(path: Path) -> int:
    """Opens a part's log for appending and gives the file descriptor, which the caller closes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def rotate(path: Path, limit: int = _MAX_BYTES) -> None:
    """Moves what is in a log over `limit` bytes to the older file.

    The log is copied and emptied, not renamed: the process that writes it has it open, and appends.
    """
    if path.is_file() and path.stat().st_size > limit:
        shutil.copyfile(path, path.with_suffix(".log.1"))
        os.truncate(path, 0)


async def keep_bounded(paths: Iterable[Path]) -> None:
    """Rotates the logs when they are large, until cancelled."""
    watched = list(paths)
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        for path in watched:
            await asyncio.to_thread(rotate, path)


def last_lines(path: Path, since: int = 0, count: int = 1) -> list[str]:
    """Gives the last lines of a log that are not empty.

    Args:
        path: the log.
        since: the byte to read from; what stands before it is another run's.
        count: how many lines at most.
    """
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(since, end - _TAIL_BYTES) if since <= end else 0)
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]
