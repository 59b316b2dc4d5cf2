"""The server's interceptor: one access-log line a call, and every exception as a typed status."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, TypeAlias

import grpc

from services.common.errors import MycelError, internal
from services.common.status import DETAILS_KEY, to_status
from services.common.undecodable import Undecodable, tolerant

_log = logging.getLogger("mycel.access")

_UNLOGGED: Final = ("/grpc.health.v1.Health/", "/grpc.reflection.")

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps unary-unary and unary-stream methods, the two kinds that the contract has."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_UNLOGGED):
            return handler
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                _wrap_unary(handler.unary_unary, method),
                request_deserializer=tolerant(handler.request_deserializer),
                response_serializer=handler.response_serializer,
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                _wrap_stream(handler.unary_stream, method),
                request_deserializer=tolerant(handler.request_deserializer),
                response_serializer=handler.response_serializer,
            )
        return handler


def _wrap_unary(behaviour: Any, method: str) -> Any:
    async def unary(request: Any, context: Context) -> Any:
        started = time.perf_counter()
        try:
            if isinstance(request, Undecodable):
                raise request.error
            response = await behaviour(request, context)
        except BaseException as error:
            await _fail(error, context, method, started)
            raise
        _access(method, "OK", started)
        return response

    return unary


def _wrap_stream(behaviour: Any, method: str) -> Any:
    async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
        started = time.perf_counter()
        try:
            if isinstance(request, Undecodable):
                raise request.error
            # A caller may go away while a response is being sent: closing stops the work behind it at once.
            async with aclosing(behaviour(request, context)) as responses:
                async for response in responses:
                    yield response
        except BaseException as error:
            await _fail(error, context, method, started)
            raise
        _access(method, "OK", started)

    return stream


async def _fail(error: BaseException, context: Context, method: str, started: float) -> None:
    """Aborts the call with a typed status; returns, for the caller to re-raise, when there is none to give."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit | grpc.aio.AbortError):
        _access(method, "CANCELLED" if not isinstance(error, grpc.aio.AbortError) else "ABORTED", started)
        return
    if not isinstance(error, MycelError):
        _log.error("unhandled error in %s", method, exc_info=error)
        error = internal()
    _access(method, error.reason_name, started)
    status = to_status(error)
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    await context.abort(code, status.message, ((DETAILS_KEY, status.SerializeToString()),))


def _access(method: str, outcome: str, started: float) -> None:
    milliseconds = (time.perf_counter() - started) * 1e3
    _log.info(
        "%s %s %.1f ms",
        method,
        outcome,
        milliseconds,
        extra={"rpc_method": method, "outcome": outcome, "duration_ms": round(milliseconds, 3)},
    )
