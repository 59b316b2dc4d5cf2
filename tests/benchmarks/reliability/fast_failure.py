"""What a first model that fails at once costs the call, measured call by call beside one without it."""

from __future__ import annotations

import socket
import statistics
from typing import Final

from tests.benchmarks.reliability.report import Figure, Section, figures, milliseconds, share
from tests.benchmarks.reliability.stack import Candidate, configuration, running_stack
from tests.benchmarks.reliability.upstream import Exchange, running_upstream, says

_BAR_SECONDS: Final = 0.020
_WARM_UP: Final = 30


async def run(calls: int) -> Section:
    """Asks by turns a healthy model, and routes where it comes second after a failing one."""

    async def refuse(exchange: Exchange) -> None:
        await exchange.refuse(500)

    async def limit(exchange: Exchange) -> None:
        await exchange.refuse(429)

    async def reset(exchange: Exchange) -> None:
        exchange.reset()

    with socket.socket() as refused:
        refused.bind(("127.0.0.1", 0))
        async with running_upstream() as upstream:
            addresses = {
                "500": upstream.at("500", refuse),
                "429": upstream.at("429", limit),
                "TCP reset": upstream.at("reset", reset),
                "connect refused": f"http://127.0.0.1:{refused.getsockname()[1]}",
            }
            candidates = [Candidate("healthy", "anthropic", upstream.at("healthy", says(5)))]
            routes = {}
            for place, address in enumerate(addresses.values()):
                candidates.append(Candidate(f"failing-{place}", "openai", address))
                routes[f"route-{place}"] = [f"failing-{place}", "healthy"]
            config = configuration(candidates, routes, {"breaker": {"failures": 1_000_000}, "hedge": {"share": 0}})
            times: dict[str, list[float]] = {name: [] for name in ("healthy", *routes)}
            async with running_stack(config) as stack:
                for turn in range(max(calls // len(times), 50) + _WARM_UP):
                    for name, taken in times.items():
                        told = await stack.ask(name, streamed=False)
                        assert told.attempts == (1 if name == "healthy" else 2), told
                        if turn >= _WARM_UP:
                            taken.append(told.seconds)
    return Section("fast_failure", figures(_figures(dict(zip(addresses, routes, strict=True)), times)))


def _figures(names: dict[str, str], times: dict[str, list[float]]) -> list[Figure]:
    alone = times["healthy"]
    usual = statistics.median(alone)
    told = f"p50 {milliseconds(usual)} ms, p99 {milliseconds(share(alone, 0.99))} ms ({len(alone)} calls)"
    found = [Figure("a healthy call", told)]
    for name, route in names.items():
        taken = times[route]
        added = [share(taken, part) - share(alone, part) for part in (0.5, 0.99)]
        value = (
            f"adds {milliseconds(added[0])} ms to the p50 and {milliseconds(added[1])} ms to the p99; the p99 is "
            f"{milliseconds(share(taken, 0.99) - usual)} ms over the healthy p50"
        )
        found.append(Figure(f"first model fails: {name}", value, "p99: at most 20 ms more", added[1] <= _BAR_SECONDS))
    return found
