"""Why a model did not come."""

from __future__ import annotations


class PullError(Exception):
    """A model cannot be brought here; the message is one line for a person."""


class WrongContentError(PullError):
    """What came is not what it should be; what there is of it is of no use."""
