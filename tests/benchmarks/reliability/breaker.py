"""With its breaker open, a dead provider is left alone but for the probes."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import Final

import grpc

from tests.benchmarks.reliability.report import Figure, Section, figures
from tests.benchmarks.reliability.stack import Candidate, Stack, configuration, running_stack
from tests.benchmarks.reliability.upstream import Exchange, running_upstream, says

_CONCURRENCY: Final = 16
_FAILURES: Final = 5
_OPEN_SECONDS: Final = 0.5
_REPLY_SECONDS: Final = 0.03
"""How long the dead provider takes to fail: several calls are with it at once."""


async def run(seconds: float) -> Section:
    """Asks a route whose first model is dead, for a while, with one probe at a time and with two."""
    found = [figure for probes in (1, 2) for figure in await _measure(seconds / 2, probes)]
    return Section("breaker", figures(found))


async def _measure(seconds: float, probes: int) -> list[Figure]:
    window = f"{_OPEN_SECONDS * 1e3:.0f}ms"
    breaker = {"failures": _FAILURES, "open": window, "max_open": window, "probes": probes}
    at_once = most = 0

    async def die(exchange: Exchange) -> None:
        nonlocal at_once, most
        at_once += 1
        if len(upstream.calls["dead"]) > _FAILURES + _CONCURRENCY:
            most = max(most, at_once)
        await asyncio.sleep(_REPLY_SECONDS)
        await exchange.refuse(500)
        at_once -= 1

    async with running_upstream() as upstream:
        candidates = [
            Candidate("dead", "openai", upstream.at("dead", die)),
            Candidate("healthy", "anthropic", upstream.at("healthy", says(5))),
        ]
        config = configuration(candidates, {"route": ["dead", "healthy"]}, {"breaker": breaker})
        async with running_stack(config) as stack:
            calls, failures = await _press(stack, seconds)
        return _figures(upstream.calls["dead"], calls, failures, seconds, probes)


async def _press(stack: Stack, seconds: float) -> tuple[int, int]:
    calls = failures = 0
    until = time.perf_counter() + seconds

    async def work() -> None:
        nonlocal calls, failures
        while time.perf_counter() < until:
            calls += 1
            try:
                await stack.ask("route", streamed=False)
            except grpc.aio.AioRpcError:
                failures += 1

    await asyncio.gather(*(work() for _ in range(_CONCURRENCY)))
    return calls, failures


def _figures(reached: list[float], calls: int, failures: int, seconds: float, probes: int) -> list[Figure]:
    """Those that were on their way when the breaker opened came within the shortest time that it stays open."""
    shortest = _OPEN_SECONDS / 2
    gaps = (place for place, (one, two) in enumerate(pairwise(reached), 1) if two - one >= shortest * 0.8)
    before = next(gaps, len(reached))
    after = reached[before:]
    busiest = max((sum(start <= other < start + shortest for other in after) for start in after), default=0)
    allowed = probes * int(seconds / shortest + 1)
    first = _FAILURES + _CONCURRENCY - 1
    return [
        Figure(
            f"calls that reach a dead provider, {probes} probe{'s' if probes > 1 else ''}",
            f"{before} until the breaker was open (5 failures, 16 callers); then {len(after)} of {calls - before:,}",
            f"≤ {first}, then ≤ {allowed}",
            before <= first and len(after) <= allowed,
        ),
        Figure(
            f"most of them within {shortest * 1e3:.0f} ms, the shortest time it is open",
            str(busiest),
            f"≤ {probes}",
            busiest <= probes,
        ),
        Figure("failures seen by the caller", str(failures), "0", failures == 0),
    ]
