"""Reads what every call brings in its metadata, and tells in the response's metadata how it was answered."""

from __future__ import annotations

import re
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

import grpc
from mycel.chat.v1 import types_pb2 as chat
from opentelemetry import trace

from services.common.config import CacheConfig
from services.common.errors import internal, invalid
from services.common.telemetry import current_trace_id
from services.router.accumulate import Accumulator
from services.router.answering import Restarted
from services.router.auth import Tenants
from services.router.engine import ChatEngine, Closed, Opened
from services.router.ports import CacheMode, Call
from services.router.validate import check_input

Context = grpc.aio.ServicerContext[Any, Any]

_SCOPE: Final = re.compile(r"[A-Za-z0-9._:/-]{0,128}")


class CallReader:
    """Turns a request and its metadata into a `Call`."""

    def __init__(self, tenants: Tenants, cache: CacheConfig, *, max_seconds: float) -> None:
        """Makes a reader.

        Args:
            tenants: who may call.
            cache: the configured cache mode applies when a call names none.
            max_seconds: the time a call gets that sets no deadline, and the most that any gets.
        """
        self._tenants = tenants
        self._default_mode = CacheMode(cache.mode)
        self._max_seconds = max_seconds

    def authenticate(self, context: Context) -> str:
        """Gives the calling tenant.

        Raises:
            MycelError: UNAUTHENTICATED.
        """
        return self._tenants.authenticate(_metadata(context).get("authorization"))

    def read(self, context: Context, tenant: str, model: str, value: chat.ChatInput, *, streamed: bool) -> Call:
        """Checks a request.

        Raises:
            MycelError: INVALID_ARGUMENT, naming the field or header.
        """
        metadata = _metadata(context)
        mode = metadata.get("x-mycel-cache", "").strip().lower()
        if mode and mode not in {known.value for known in CacheMode}:
            raise invalid("x-mycel-cache", f"{mode[:32]!r} is none of {', '.join(CacheMode)}")
        scope = metadata.get("x-mycel-cache-scope", "")
        if not _SCOPE.fullmatch(scope):
            raise invalid("x-mycel-cache-scope", "at most 128 letters, digits and `._:/-`")
        check_input(value)
        left = context.time_remaining()
        seconds = self._max_seconds if left is None else min(left, self._max_seconds)
        return Call(tenant, scope, model, value, self._mode(mode), streamed, seconds)

    def _mode(self, asked: str) -> CacheMode:
        """A call may ask for less than is configured, not for more."""
        if not asked:
            return self._default_mode
        mode = CacheMode(asked)
        if self._default_mode is CacheMode.OFF:
            return CacheMode.OFF
        if self._default_mode is CacheMode.EXACT and mode is CacheMode.SEMANTIC:
            return CacheMode.EXACT
        return mode


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer in one piece."""

    opened: Opened
    choices: list[chat.Choice]
    closed: Closed


async def answer_whole(engine: ChatEngine, call: Call, context: Context) -> Whole:
    """Answers a call in one piece. The response's headers tell of the model that made it, or its last part.

    Raises:
        MycelError: whatever ended the answer, nothing of which was sent.
    """
    answer = Accumulator()
    opened: Opened | None = None
    async with aclosing(engine.answer(call)) as events:
        async for event in events:
            match event:
                case Opened():
                    opened = event
                case Restarted():
                    answer = Accumulator()
                case Closed(_, summary) if opened is not None:
                    opened = replace(opened, model=summary.model, provider=summary.provider, attempts=summary.attempts)
                    await open_answer(opened, context)
                    mark_closed(event)
                    return Whole(opened, answer.choices(), event)
                case chat.ChoiceDelta():
                    answer.add(event)
    raise internal()


async def open_answer(opened: Opened, context: Context) -> None:
    """Sends the response's headers, and puts the decision on the call's span. No text goes there."""
    trace.get_current_span().set_attributes(
        {
            "mycel.cache": opened.cache,
            "mycel.tier": opened.tier,
            "mycel.model": opened.model,
            "mycel.provider": opened.provider,
            "mycel.attempts": opened.attempts,
        }
    )
    await context.send_initial_metadata(_response_headers(opened))


def _response_headers(opened: Opened) -> tuple[tuple[str, str], ...]:
    """Gives the initial metadata of an answer."""
    return (
        ("x-mycel-cache", opened.cache),
        ("x-mycel-tier", opened.tier),
        ("x-mycel-model", opened.model),
        ("x-mycel-provider", opened.provider),
        ("x-mycel-attempts", str(opened.attempts)),
        ("x-mycel-trace-id", current_trace_id()),
    )


def mark_closed(closed: Closed) -> None:
    """Puts what the call used and cost on its span, and its trace into the summary."""
    closed.summary.trace_id = current_trace_id()
    trace.get_current_span().set_attributes(
        {
            "gen_ai.usage.input_tokens": closed.usage.prompt_tokens,
            "gen_ai.usage.output_tokens": closed.usage.completion_tokens,
            "mycel.cost_usd": closed.summary.cost_usd,
            "mycel.saved_usd": closed.summary.saved_usd,
            "mycel.route.explanation": closed.summary.explanation,
        }
    )


def _metadata(context: Context) -> dict[str, str]:
    pairs = context.invocation_metadata() or ()
    return {str(key): value for key, value in pairs if isinstance(value, str)}
