"""Resident memory of router and provider over many calls, good and bad."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from typing import Final

import grpc

from tests.benchmarks.reliability import speech
from tests.benchmarks.reliability.report import Figure, Section, figures
from tests.benchmarks.reliability.stack import Candidate, Stack, configuration, running_stack
from tests.benchmarks.reliability.upstream import Exchange, dies_after, running_upstream, says

_CONCURRENCY: Final = 16
_SAMPLES: Final = 200
_BAR: Final = 1.02
_TOKENS: Final = 8


async def run(calls: int) -> Section:
    """Asks every kind by turns; one call in ten meets a failure first, before or in mid-stream."""

    async def refuse(exchange: Exchange) -> None:
        await exchange.refuse(500)

    async with running_upstream() as upstream:
        candidates = [Candidate(kind, kind, upstream.at(kind, says(_TOKENS))) for kind in speech.KINDS]
        candidates.append(Candidate("refusing", "openai", upstream.at("refusing", refuse)))
        candidates.append(Candidate("dying", "anthropic", upstream.at("dying", dies_after(3, _TOKENS))))
        routes = {"refused": ["refusing", "ollama"], "died": ["dying", "ollama"]}
        turns = (*speech.KINDS, "refused", *speech.KINDS, "died")
        config = configuration(candidates, routes, {"breaker": {"failures": 1_000_000}})
        async with running_stack(config) as stack:
            begun = time.perf_counter()
            sizes, failures = await _press(stack, calls, turns)
            seconds = time.perf_counter() - begun
    found = [_figure(name, [sample[place] for sample in sizes]) for place, name in enumerate(("router", "provider"))]
    found.append(Figure("failures seen by the caller", f"{failures} of {calls:,}", "0", failures == 0))
    found.append(Figure("calls a second, 16 at a time", f"{calls / seconds:.0f}"))
    return Section("memory", figures(found))


async def _press(stack: Stack, calls: int, turns: Sequence[str]) -> tuple[list[tuple[int, int]], int]:
    """Gives the resident memory of both processes, in bytes, over time, and the number of failed calls."""
    sizes: list[tuple[int, int]] = []
    failures = 0
    waiting = iter(range(calls))
    every = max(calls // _SAMPLES, 1)

    async def work() -> None:
        nonlocal failures
        for number in waiting:
            if number % every == 0:
                sizes.append((stack.router_process.memory_info().rss, stack.provider_process.memory_info().rss))
            try:
                await stack.ask(turns[number % len(turns)], streamed=number % 2 == 0)
            except grpc.aio.AioRpcError:
                failures += 1

    await asyncio.gather(*(work() for _ in range(_CONCURRENCY)))
    return sizes, failures


def _figure(name: str, sizes: list[int]) -> Figure:
    quarter = len(sizes) // 4
    quarters = [statistics.mean(sizes[place * quarter : (place + 1) * quarter]) / 1e6 for place in range(4)]
    ratio = quarters[3] / quarters[1]
    value = f"{', '.join(f'{size:.1f}' for size in quarters)} MB in the four quarters: last / second = {ratio:.3f}"
    return Figure(f"resident memory, {name}", value, "≤ 1.02", ratio <= _BAR)
