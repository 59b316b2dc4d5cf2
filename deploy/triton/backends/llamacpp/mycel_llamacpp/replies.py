"""The way back to one caller: streamed chunks, the answer in one piece, or an error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import triton_python_backend_utils as pb_utils

from mycel_llamacpp.failures import InvalidRequestError, NotAcceptingError, RequestCancelledError
from mycel_llamacpp.generation import Chunk
from mycel_llamacpp.tensors import RequestInputs, make_response


class Reply:
    """Sends the responses of one request, and exactly one of them as final.

    Args:
        sender: Triton's response sender of the request.
    """

    def __init__(self, sender: Any) -> None:
        self._sender = sender
        self._inputs: RequestInputs | None = None
        self._collected: list[Chunk] = []
        self._finished = False

    def open(self, inputs: RequestInputs) -> None:
        """Tells how the caller wants the answer; before the first chunk."""
        self._inputs = inputs

    def is_cancelled(self) -> bool:
        """Says whether the caller cancelled the request or went away."""
        return bool(self._sender.is_cancelled())

    def add(self, chunk: Chunk) -> None:
        """Takes the answer's next chunk."""
        inputs = self._inputs
        if inputs is None:
            raise RuntimeError("a chunk came before the request was read")
        if not inputs.stream:
            self._collected.append(chunk)
            if chunk.finish_reason is None:
                return
            chunk = _joined(self._collected, inputs.text if inputs.prepend_prompt else "")
        self._send(make_response(chunk, inputs.returned), final=chunk.finish_reason is not None)

    def fail(self, error: Exception) -> None:
        """Ends the request with an error, unless it has ended."""
        if self._finished:
            return
        code, text = _explain(error)
        # Without the header that turns a stream's error into a gRPC status (it makes Triton 24.10
        # crash when a caller cancels at that moment) only the text arrives: it begins with the code.
        failure = pb_utils.TritonError(f"{code}: {text}", getattr(pb_utils.TritonError, code))
        self._send(pb_utils.InferenceResponse(error=failure), final=True)

    def _send(self, response: Any, *, final: bool) -> None:
        self._finished = final
        flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0
        self._sender.send(response, flags)


def _explain(error: Exception) -> tuple[str, str]:
    """Gives an error's code, by its name in TritonError, and its text."""
    if isinstance(error, RequestCancelledError):
        return "CANCELLED", "the request was cancelled"
    if isinstance(error, InvalidRequestError):
        return "INVALID_ARG", str(error)
    if isinstance(error, NotAcceptingError):
        return "UNAVAILABLE", str(error)
    return "INTERNAL", f"generation failed: {error}"


def _joined(chunks: list[Chunk], prefix: str) -> Chunk:
    return replace(
        chunks[-1],
        text=prefix + "".join(chunk.text for chunk in chunks),
        new_tokens=sum(chunk.new_tokens for chunk in chunks),
        logprobs=[record for chunk in chunks for record in chunk.logprobs],
    )
