"""Triton's errors as the contract's reasons. A stream gives them as text only; our backend's begin with a code."""

from __future__ import annotations

import re
from typing import Final

from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.errors import MycelError

_TOO_LONG: Final = (
    re.compile(r"\((?P<prompt>\d+) tokens\) exceeds the available context size \((?P<limit>\d+) tokens\)"),
    re.compile(r"\(length (?P<prompt>\d+)\) is longer than the maximum model length of (?P<limit>\d+)"),
)
_PARAMETER: Final = re.compile(r"sampling parameter '(?P<name>\w+)'")
_REFUSED: Final = "INVALID_ARG: "
_FULL: Final = "UNAVAILABLE: the model's queue is full"


def from_triton_message(message: str, model: str, schema_field: str = "response_format") -> MycelError:
    """Reads the error that a stream ended with.

    Args:
        message: Triton's text.
        model: the model's name in the mesh.
        schema_field: the caller's field that a schema came from.
    """
    for pattern in _TOO_LONG:
        if found := pattern.search(message):
            return too_long(found["prompt"], found["limit"], model)
    if message.startswith(_REFUSED):
        return _refused(message.removeprefix(_REFUSED), model, schema_field)
    metadata = {"model": model}
    if message == _FULL:
        return MycelError(ErrorReason.ERROR_REASON_OVERLOADED, f"{model}: its queue is full", metadata=metadata)
    return MycelError(
        ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE, f"{model}: Triton failed: {message}", metadata=metadata
    )


def too_long(prompt_tokens: str, limit: str, model: str, at_least: str = "") -> MycelError:
    """Refuses a prompt for its length.

    Args:
        prompt_tokens: how many tokens it has.
        limit: how many the model takes.
        model: the model's name in the mesh.
        at_least: `at least `, when `prompt_tokens` is a bound and not a count.
    """
    return MycelError(
        ErrorReason.ERROR_REASON_CONTEXT_TOO_LONG,
        f"messages: the prompt has {at_least}{prompt_tokens} tokens, {model} takes at most {limit} with its answer",
        field="messages",
        metadata={"prompt_tokens": prompt_tokens, "limit": limit, "model": model},
    )


def _refused(text: str, model: str, schema_field: str) -> MycelError:
    found = _PARAMETER.search(text)
    field = found["name"] if found else "messages"
    if "structured_outputs" in text or "grammar" in text:
        field = schema_field
    reason = ErrorReason.ERROR_REASON_INVALID_ARGUMENT
    return MycelError(reason, f"{field}: {text}", field=field, metadata={"model": model})
