"""Why a request gets an error instead of an answer. model.py maps each to a Triton error code."""

from __future__ import annotations


class InvalidRequestError(ValueError):
    """The caller's fault; the message names the input or parameter."""


class RequestCancelledError(Exception):
    """The caller went away or its deadline passed."""


class NotAcceptingError(Exception):
    """The model is full or shutting down; another replica may take the request."""


class EngineError(RuntimeError):
    """The engine's fault."""
