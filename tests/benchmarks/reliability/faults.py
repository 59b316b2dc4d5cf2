"""The ways in which an upstream fails, for the fault matrix."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from tests.benchmarks.reliability import speech
from tests.benchmarks.reliability.upstream import Behaviour, Exchange, Upstream, dies_after

ANSWER_TOKENS: Final = 12
_ALERT: Final = b"\x15\x03\x01\x00\x02\x02\x28"
"""TLS: a fatal alert, handshake_failure."""
_DRIP_SECONDS: Final = 0.05


async def _reset(exchange: Exchange) -> None:
    exchange.reset()


async def _hang(exchange: Exchange) -> None:
    await exchange.until_hung_up()


async def _hang_before_the_first_token(exchange: Exchange) -> None:
    await exchange.begin()
    await exchange.send(*speech.opening(exchange.kind) or [" "])
    await exchange.until_hung_up()


async def _garbage(exchange: Exchange) -> None:
    await exchange.begin()
    await exchange.send(speech.garbage(exchange.kind))
    await exchange.end()


async def _drip(exchange: Exchange) -> None:
    """A byte at a time: no read ever times out, and nothing is ever complete."""
    await exchange.begin()
    events = "".join([*speech.opening(exchange.kind), *(speech.piece(exchange.kind, t) for t in speech.tokens(12))])
    for character in events:
        await exchange.send(character)
        await asyncio.sleep(_DRIP_SECONDS)
    exchange.keep = False


def _refusing(status: int, headers: str = "") -> Behaviour:
    async def refuse(exchange: Exchange) -> None:
        await exchange.refuse(status, headers)

    return refuse


_ON_THE_WIRE: Final[Mapping[str, Behaviour]] = {
    "TCP reset": _reset,
    "429": _refusing(429),
    "429, Retry-After 2": _refusing(429, "retry-after: 2\r\n"),
    "500": _refusing(500),
    "502": _refusing(502),
    "503": _refusing(503),
    "529": _refusing(529),
    "hang before headers": _hang,
    "hang before first token": _hang_before_the_first_token,
    "garbage JSON": _garbage,
    "truncated stream": dies_after(5, ANSWER_TOKENS),
    "slow drip": _drip,
}
FAULTS: Final = ("connect refused", "TLS failure", "DNS failure", *_ON_THE_WIRE)


@asynccontextmanager
async def faulty_addresses(upstream: Upstream) -> AsyncIterator[dict[str, str]]:
    """Gives the address of an upstream for each fault."""
    async with AsyncExitStack() as stack:
        refused = stack.enter_context(socket.socket())
        refused.bind(("127.0.0.1", 0))  # bound but not listening: nobody else gets the port, and nobody answers
        tls = await asyncio.start_server(_shake_hands, "127.0.0.1", 0)
        stack.callback(tls.close)
        yield {
            "connect refused": f"http://127.0.0.1:{refused.getsockname()[1]}",
            "TLS failure": f"https://127.0.0.1:{tls.sockets[0].getsockname()[1]}",
            "DNS failure": "http://upstream.invalid",
            **{fault: upstream.at(slug(fault), behaviour) for fault, behaviour in _ON_THE_WIRE.items()},
        }


async def _shake_hands(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(4096)
    writer.write(_ALERT)
    writer.close()


def slug(fault: str) -> str:
    """A name for addresses and models."""
    return "-".join(fault.lower().replace(",", "").split())
