"""Reads the request's tensors and makes the response's, in the vLLM backend's form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import triton_python_backend_utils as pb_utils

from mycel_llamacpp.failures import InvalidRequestError
from mycel_llamacpp.generation import Chunk

_RETURNED: Final = (
    "finish_reason",
    "cumulative_logprob",
    "logprobs",
    "num_input_tokens",
    "num_output_tokens",
    "num_cached_tokens",
)
_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class RequestInputs:
    """A request's inputs.

    Attributes:
        prompt: What to go on from: a text, or texts and ids of tokens, each text to be read by itself.
        text: The prompt as text, to repeat.
        stream: Whether the answer goes out chunk by chunk.
        prepend_prompt: Whether the answer begins with the prompt; never when streamed.
        sampling: vLLM's sampling parameters as JSON text.
        returned: The optional outputs that were asked for.
    """

    prompt: str | list[int | str]
    text: str
    stream: bool
    prepend_prompt: bool
    sampling: str
    returned: frozenset[str]


def read_inputs(request: Any) -> RequestInputs:
    """Reads a request.

    Raises:
        InvalidRequestError: An input is missing, has no or several values, or is not UTF-8.
    """
    stream = bool(_value(request, "stream", False))
    exclude = _value(request, "exclude_input_in_output", None)
    prepend = not stream if exclude is None else not exclude
    if prepend and stream:
        raise InvalidRequestError("exclude_input_in_output must not be false when streaming")
    text = _text(_value(request, "text_input", _MISSING), "text_input")
    return RequestInputs(
        prompt=_parts(_text(_value(request, "prompt_parts", b""), "prompt_parts")) or text,
        text=text,
        stream=stream,
        prepend_prompt=prepend,
        sampling=_text(_value(request, "sampling_parameters", b""), "sampling_parameters"),
        returned=frozenset(name for name in _RETURNED if bool(_value(request, f"return_{name}", False))),
    )


def _parts(value: str) -> list[int | str]:
    """Reads the exact prompt; empty for none. Without an id the engine would take each text for a prompt of its own."""
    try:
        parts = json.loads(value or "[]")
    except ValueError:
        raise InvalidRequestError("input 'prompt_parts' is not JSON") from None
    known = isinstance(parts, list) and all(type(part) in (int, str) for part in parts)
    if not known or (parts and not any(type(part) is int for part in parts)):
        raise InvalidRequestError("input 'prompt_parts' must be a list of texts and of at least one token id")
    return parts


def make_response(chunk: Chunk, returned: frozenset[str]) -> Any:
    """Makes the response that carries a chunk."""
    tensors = [_text_tensor("text_output", chunk.text)]
    if "finish_reason" in returned:
        tensors.append(_text_tensor("finish_reason", str(chunk.finish_reason)))
    if "cumulative_logprob" in returned:
        tensors.append(_tensor("cumulative_logprob", chunk.cumulative_logprob, np.float32))
    if "logprobs" in returned:
        tensors.append(_text_tensor("logprobs", json.dumps(chunk.logprobs)))
    if "num_input_tokens" in returned:
        tensors.append(_tensor("num_input_tokens", chunk.prompt_tokens, np.uint32))
    if "num_output_tokens" in returned:
        tensors.append(_tensor("num_output_tokens", chunk.new_tokens, np.uint32))
    if "num_cached_tokens" in returned:
        tensors.append(_tensor("num_cached_tokens", chunk.cached_tokens, np.uint32))
    return pb_utils.InferenceResponse(output_tensors=tensors)


def _value(request: Any, name: str, default: object) -> Any:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        if default is _MISSING:  # Triton itself lets a request without it pass
            raise InvalidRequestError(f"input '{name}' is missing")
        return default
    values = tensor.as_numpy().reshape(-1)
    if values.size != 1:
        raise InvalidRequestError(f"input '{name}' must hold exactly one value")
    return values[0]


def _text(value: bytes, name: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequestError(f"input '{name}' is not valid UTF-8") from None


def _text_tensor(name: str, text: str) -> Any:
    return pb_utils.Tensor(name, np.array([text.encode()], dtype=np.object_))


def _tensor(name: str, value: float, kind: type[np.generic]) -> Any:
    return pb_utils.Tensor(name, np.array([value], dtype=kind))
