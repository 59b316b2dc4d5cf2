"""The connection to Triton, over tritonclient's gRPC."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
import tritonclient.grpc.aio as triton
from mycel.error.v1.error_reason_pb2 import ErrorReason
from opentelemetry import propagate, trace

from services.common.deadline import Deadline
from services.common.errors import MycelError
from services.common.server import MAX_MESSAGE_BYTES
from services.inference.pieces import Piece
from services.inference.prompt import Prompt
from services.inference.triton_errors import from_triton_message
from services.inference.vllm_tensors import PieceReader, make_inputs

_CHANNEL: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


@dataclass(frozen=True, slots=True)
class TritonRequest:
    """An answer to ask for."""

    request_id: str
    model: str
    """The model's name in the mesh, for errors."""
    triton_model: str
    prompt: Prompt
    sampling: dict[str, Any]
    deadline: Deadline
    idle_seconds: float
    """The longest wait for the next piece."""
    inputs: frozenset[str] = frozenset()
    """The names of the model's inputs, as Triton tells them."""
    schema_field: str = "response_format"
    """The caller's field that the schema in `sampling` comes from, for errors."""


class TritonClient:
    """Asks one Triton. Made inside the event loop, and closed with `aclose`."""

    def __init__(self, address: str, tracer: trace.Tracer) -> None:
        self._address = address
        self._tracer = tracer
        # tritonclient has no type annotations.
        self._client: Any = triton.InferenceServerClient(address, channel_args=list(_CHANNEL))  # type: ignore[no-untyped-call]

    async def aclose(self) -> None:
        """Closes the connection."""
        await self._client.close()

    async def stream(self, request: TritonRequest) -> AsyncGenerator[Piece, None]:
        """Streams an answer; closing the generator cancels it in Triton.

        Raises:
            MycelError: Triton refused, failed, was not there, or took too long.
        """
        # tritonclient makes its channel itself, without our interceptors: the client span is made by hand.
        with self._span() as span:
            headers = _trace_headers(span)
            call = self._client.stream_infer(_only(request), stream_timeout=request.deadline.left(), headers=headers)
            reader, failure, whole = PieceReader(), "", False
            try:
                while (answer := await _next(call, request)) is not None:
                    result, error = answer
                    if error is not None:
                        # The stream now ends by itself. Cancelling it as well makes Triton forget to let go of the
                        # model, and later wait for it in vain when it stops.
                        failure = str(error.message())
                        continue
                    yield reader.read(result)
                whole = True
            finally:
                if not whole:
                    call.cancel()
            if failure:
                raise from_triton_message(failure, request.model, request.schema_field)

    @contextlib.contextmanager
    def _span(self) -> Iterator[trace.Span]:
        host, _, port = self._address.rpartition(":")
        span = self._tracer.start_span(
            "inference.GRPCInferenceService/ModelStreamInfer",
            kind=trace.SpanKind.CLIENT,
            attributes={
                "rpc.system": "grpc",
                "rpc.service": "inference.GRPCInferenceService",
                "rpc.method": "ModelStreamInfer",
                "server.address": host,
                "server.port": int(port),
            },
        )
        try:
            yield span
        except MycelError as error:
            span.set_attribute("error.type", error.reason_name)
            span.set_status(trace.StatusCode.ERROR)
            raise
        finally:
            span.end()


def _trace_headers(span: trace.Span) -> dict[str, str]:
    """Gives the headers that continue the trace; none when it is not sampled, which Triton would not look at."""
    headers: dict[str, str] = {}
    if span.get_span_context().trace_flags.sampled:
        propagate.inject(headers, trace.set_span_in_context(span))
    return headers


async def _only(request: TritonRequest) -> AsyncIterator[dict[str, Any]]:
    yield {
        "model_name": request.triton_model,
        "inputs": make_inputs(request.prompt, request.sampling, request.inputs),
        "request_id": request.request_id,
        "enable_empty_final_response": False,
    }


async def _next(call: Any, request: TritonRequest) -> tuple[Any, Any] | None:
    """Gives the next answer of a stream, or None at its end.

    Raises:
        MycelError: the stream broke off, or nothing came in time.
    """
    try:
        async with asyncio.timeout(request.idle_seconds):
            answer: tuple[Any, Any] = await anext(call)
            return answer
    except StopAsyncIteration:
        return None
    except TimeoutError:
        raise _unavailable(request, f"Triton gave nothing for {request.idle_seconds:g} s") from None
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            request.deadline.left()  # raises DEADLINE_EXCEEDED, if it is ours that has passed
        raise _unavailable(request, f"Triton: {error.details() or error.code().name}") from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # grpc reports a call that ended before its request was written as if we had cancelled it.
        request.deadline.left()
        raise _unavailable(request, "the call to Triton was broken off") from None


def _unavailable(request: TritonRequest, text: str) -> MycelError:
    reason = ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE
    return MycelError(reason, f"{request.model}: {text}", metadata={"model": request.model})
