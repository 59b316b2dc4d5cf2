"""The fault matrix: every fault, every kind, whole and streamed, with one healthy model behind."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import product
from typing import Any, Final

import grpc

from tests.benchmarks.reliability import faults, speech
from tests.benchmarks.reliability.faults import ANSWER_TOKENS, FAULTS
from tests.benchmarks.reliability.report import Figure, Section, figures, milliseconds, share, table
from tests.benchmarks.reliability.stack import Candidate, Stack, configuration, running_stack
from tests.benchmarks.reliability.upstream import Upstream, running_upstream, says

_CONCURRENCY: Final = 8
_TIMEOUT: Final = timedelta(seconds=1)
"""Of the faulty providers, so that hangs end within the benchmark's time; 60 s is the default."""
EVERY_TIME: Final[Mapping[str, Any]] = {
    # Every fault is met every time: no breaker opens, and Retry-After opens none for longer than a moment.
    "breaker": {"failures": 1_000_000, "max_cool_down": "1ms", "probes": 1000},
    "first_token": "2s",
    "hedge": {"share": 0},
}
_DEFAULTS: Final[Mapping[str, Any]] = {"first_token": "2s"}
_NONE: Final = "none"
_EXPECTED: Final = "".join(speech.tokens(ANSWER_TOKENS))

Cell = tuple[str, str]
"""Kind and fault."""


@dataclass(slots=True)
class Seen:
    """What became of the calls of one cell."""

    seconds: list[float] = field(default_factory=list)
    attempts: int = 0
    met: int = 0
    """Calls for which the faulty upstream was asked."""
    failures: list[str] = field(default_factory=list)


async def run(requests: int, every_time: int) -> Section:
    """Runs the matrix twice: with breakers as they are by default, and with every fault met every time.

    Args:
        requests: calls of the first run.
        every_time: calls of the second.
    """
    parts: list[str] = []
    for name, count, reliability in (
        ("Breakers at their defaults", requests, _DEFAULTS),
        ("Every fault met every time (breakers never open)", every_time, EVERY_TIME),
    ):
        begun = time.perf_counter()
        cells = await measure(count, reliability)
        parts.append(_told(name, cells, time.perf_counter() - begun))
    return Section("matrix", "\n\n".join(parts))


async def measure(requests: int, reliability: Mapping[str, Any]) -> dict[Cell, Seen]:
    async with running_upstream() as upstream, faults.faulty_addresses(upstream) as addresses:
        config = _config(upstream, addresses, reliability)
        async with running_stack(config) as stack:
            for kind in speech.KINDS:
                await stack.ask(_healthy(kind), streamed=True)
            each = max(requests // (len(FAULTS) * len(speech.KINDS) * 2), 1)
            cells: dict[Cell, Seen] = defaultdict(Seen)
            waiting = iter(
                [call for _ in range(each) for call in product(speech.KINDS, (_NONE, *FAULTS), (False, True))]
            )

            async def work() -> None:
                for kind, fault, streamed in waiting:
                    route = _healthy(_behind(kind)) if fault == _NONE else f"{kind}-{faults.slug(fault)}"
                    await _ask(stack, cells[kind, fault], route, streamed=streamed)

            await asyncio.gather(*(work() for _ in range(_CONCURRENCY)))
            return cells


def _config(upstream: Upstream, addresses: Mapping[str, str], reliability: Mapping[str, Any]) -> dict[str, Any]:
    candidates = [Candidate(_healthy(kind), kind, upstream.at(_healthy(kind), says(12))) for kind in speech.KINDS]
    routes: dict[str, Sequence[str]] = {}
    for kind in speech.KINDS:
        for fault, address in addresses.items():
            name = f"{kind}-{faults.slug(fault)}"
            own = f"{address}-{kind}" if address.startswith(upstream.url) else address
            if own != address:
                upstream.at(f"{faults.slug(fault)}-{kind}", upstream.behaviours[faults.slug(fault)])
            candidates.append(Candidate(f"m-{name}", kind, own, _TIMEOUT))
            routes[name] = [f"m-{name}", _healthy(_behind(kind))]
    return configuration(candidates, routes, reliability)


def _healthy(kind: str) -> str:
    return f"healthy-{kind}"


def _behind(kind: str) -> str:
    """The kind of the healthy model behind a failing one."""
    return speech.KINDS[(speech.KINDS.index(kind) + 1) % len(speech.KINDS)]


async def _ask(stack: Stack, seen: Seen, route: str, *, streamed: bool) -> None:
    try:
        told = await stack.ask(route, streamed=streamed)
    except grpc.aio.AioRpcError as error:
        seen.failures.append(f"{route}: {error.code().name}: {error.details()}")
        return
    if told.text != _EXPECTED:
        seen.failures.append(f"{route}: the text is {told.text!r}")
    seen.seconds.append(told.seconds)
    seen.attempts += told.attempts
    seen.met += told.attempts > 1


def _told(name: str, cells: Mapping[Cell, Seen], seconds: float) -> str:
    failures = [failure for seen in cells.values() for failure in seen.failures]
    faulty = [seen for (_, fault), seen in cells.items() if fault != _NONE]
    calls = sum(len(seen.seconds) + len(seen.failures) for seen in faulty)
    usual = {kind: statistics.median(cells[kind, _NONE].seconds) for kind in speech.KINDS}
    rows = []
    for fault in FAULTS:
        row = [cells[kind, fault] for kind in speech.KINDS]
        done = sum(len(seen.seconds) for seen in row)
        failed = sum(len(seen.failures) for seen in row)
        attempts = sum(seen.attempts for seen in row) / max(done, 1)
        added = [_added(cells[kind, fault], usual[kind]) for kind in speech.KINDS]
        rows.append([fault, f"{done + failed:,}", str(failed), f"{sum(seen.met for seen in row):,}", f"{attempts:.2f}"])
        rows[-1] += added
    head = ("fault", "calls", "failures", "fault met", "attempts a call", *speech.KINDS)
    summary = figures([Figure("failures seen by the caller", f"{len(failures)} of {calls:,} calls", "0", not failures)])
    told = (
        "The last columns are the milliseconds that a call takes longer than the median of a healthy one in the same "
        f"run ({', '.join(milliseconds(value) for value in usual.values())} ms), p50 / p99, {_CONCURRENCY} calls at a "
        f"time. Half of the calls are streamed. The run took {seconds:.0f} s."
    )
    shown = "".join(f"\n- {failure}" for failure in failures[:10])
    return f"#### {name}\n\n{summary}\n\n{told}{shown}\n\n{table(head, rows)}"


def _added(seen: Seen, usual: float) -> str:
    if not seen.seconds:
        return "-"
    return " / ".join(milliseconds(share(seen.seconds, part) - usual) for part in (0.5, 0.99))
