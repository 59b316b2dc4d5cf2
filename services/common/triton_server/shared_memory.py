"""Removes what a killed tritonserver leaves in shared memory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_FOLDER: Final = Path("/dev/shm")  # noqa: S108 - shared memory, not a temporary file
_SHORTEST_PREFIX: Final = 6


def remove_shared_memory(prefix: str, *, folder: Path = _FOLDER) -> int:
    """Removes the files of a server that is gone. To be called only when it is.

    Args:
        prefix: The server's `shared_memory_prefix`; at least six characters, so that a slip cannot
            remove what belongs to others.
        folder: Where the system keeps shared memory.

    Returns:
        How many files there were.

    Raises:
        ValueError: The prefix is too short or is not a plain name.
    """
    if len(prefix) < _SHORTEST_PREFIX or not prefix.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"{prefix!r} is not a shared-memory prefix")
    leftovers = [path for path in folder.glob(f"{prefix}*") if path.is_file()]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)
