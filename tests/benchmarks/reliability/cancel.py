"""From the caller's cancel to the end of the upstream connection."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from mycel.chat.v1 import chat_service_pb2 as chat_service

from tests.benchmarks.reliability import speech
from tests.benchmarks.reliability.report import Figure, Section, figures, milliseconds, share
from tests.benchmarks.reliability.stack import METADATA, Candidate, Stack, configuration, question, running_stack
from tests.benchmarks.reliability.upstream import Exchange, running_upstream

_BAR_SECONDS: Final = 0.050
_WAIT_SECONDS: Final = 10.0
_PIECE_SECONDS: Final = 0.01


async def run(calls: int) -> Section:
    """Cancels answers in mid-stream, of each kind in turn."""
    closed: asyncio.Queue[float] = asyncio.Queue()

    async def speak(exchange: Exchange) -> None:
        """Goes on without end, until the client hangs up."""
        await exchange.begin()
        await exchange.send(*speech.opening(exchange.kind), speech.piece(exchange.kind, "one"))
        hung_up = asyncio.create_task(exchange.until_hung_up())
        while not hung_up.done():
            await exchange.send(speech.piece(exchange.kind, " more"))
            await asyncio.wait([hung_up], timeout=_PIECE_SECONDS)
        closed.put_nowait(time.perf_counter())
        await hung_up

    found: list[Figure] = []
    async with running_upstream() as upstream:
        candidates = [Candidate(kind, kind, upstream.at(kind, speak)) for kind in speech.KINDS]
        async with running_stack(configuration(candidates, {})) as stack:
            for kind in speech.KINDS:
                times = [await _cancel(stack, kind, closed) for _ in range(max(calls // len(speech.KINDS), 20))]
                p99 = share(times, 0.99)
                value = f"p50 {milliseconds(share(times, 0.5))} ms, p99 {milliseconds(p99)} ms ({len(times)} calls)"
                found.append(Figure(f"cancel to closed upstream, {kind}", value, "p99 ≤ 50 ms", p99 <= _BAR_SECONDS))
    return Section("cancel", figures(found))


async def _cancel(stack: Stack, model: str, closed: asyncio.Queue[float]) -> float:
    request = chat_service.StreamChatRequest(model=model, input=question("speak"))
    call = stack.chat.StreamChat(request, metadata=METADATA, timeout=30)
    async for event in call:
        if event.delta.text:
            break
    begun = time.perf_counter()
    call.cancel()
    return await asyncio.wait_for(closed.get(), _WAIT_SECONDS) - begun
