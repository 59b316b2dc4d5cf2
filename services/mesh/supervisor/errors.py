"""Why the mesh did not start."""

from __future__ import annotations


class UpError(Exception):
    """The mesh cannot start, or could not; the message is one line that says what to do."""
