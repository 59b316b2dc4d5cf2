"""Hedging: a first model of which 5% of the answers begin 50 times later than the others."""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Callable
from typing import Final

from tests.benchmarks.reliability.report import Figure, Section, figures, milliseconds, share
from tests.benchmarks.reliability.stack import Candidate, Stack, configuration, running_stack
from tests.benchmarks.reliability.upstream import running_upstream, says

_FIRST_SECONDS: Final = 0.2
"""The usual time to the first token; each is drawn within 5% of it."""
_SLOW: Final = 50
_SLOW_SHARE: Final = 0.05
_CONCURRENCY: Final = 16
_LEARNING: Final = 300


async def run(calls: int) -> Section:
    """Measures the time to the first token without hedges, with a second model as fast, and with a faster one."""
    found: list[Figure] = []
    for name, second, share_, bar in (
        ("no hedging", 1.0, 0.0, False),
        ("second model as fast as the first", 1.0, None, True),
        ("second model half as fast again", 2 / 3, None, True),
        ("second model twice as fast", 0.5, None, True),
    ):
        found += await _measure(name, calls if bar else calls // 2, second, share_, bar=bar)
    return Section("hedge", figures(found))


async def _measure(name: str, calls: int, second: float, share_: float | None, *, bar: bool) -> list[Figure]:
    draw = random.Random(3)
    reliability = {} if share_ is None else {"hedge": {"share": share_}}
    async with running_upstream() as upstream:
        candidates = [
            Candidate("first", "openai", upstream.at("first", says(5, first_after=_times(draw, 1.0)))),
            Candidate("second", "anthropic", upstream.at("second", says(5, first_after=_times(draw, second)))),
            Candidate("steady", "openai", upstream.at("steady", says(5, first_after=lambda: _usual(draw, 1.0)))),
        ]
        config = configuration(candidates, {"route": ["first", "second"]}, reliability)
        async with running_stack(config) as stack:
            await _first_tokens(stack, "steady", 2 * _CONCURRENCY)
            healthy = statistics.median(await _first_tokens(stack, "steady", 160))
            if bar:
                await _first_tokens(stack, "route", _LEARNING)
            upstream.calls.clear()
            times = await _first_tokens(stack, "route", calls)
        extra = len(upstream.calls["second"]) / calls
    p99 = share(times, 0.99)
    value = (
        f"p50 {milliseconds(share(times, 0.5))} ms, p99 {milliseconds(p99)} ms = {p99 / healthy:.2f} times the healthy "
        f"p50 ({milliseconds(healthy)} ms); {extra:.1%} extra calls"
    )
    if not bar:
        return [Figure(f"{name}: first token", value)]
    met = p99 <= 2 * healthy and extra <= 0.07
    return [Figure(f"{name}: first token", value, "p99 ≤ 2 times healthy p50, ≤ 7% extra calls", met)]


def _usual(draw: random.Random, factor: float) -> float:
    return _FIRST_SECONDS * factor * draw.uniform(0.95, 1.05)


def _times(draw: random.Random, factor: float) -> Callable[[], float]:
    return lambda: _usual(draw, factor) * (_SLOW if draw.random() < _SLOW_SHARE else 1)


async def _first_tokens(stack: Stack, model: str, calls: int) -> list[float]:
    times: list[float] = []
    waiting = iter(range(calls))

    async def work() -> None:
        for _ in waiting:
            times.append((await stack.ask(model, streamed=True)).first_seconds)

    await asyncio.gather(*(work() for _ in range(_CONCURRENCY)))
    return times
