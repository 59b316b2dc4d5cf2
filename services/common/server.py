"""The one way to start a gRPC server, used in production and in tests alike.

    async with running_server("127.0.0.1:0", [Service(name, add)], telemetry) as server:
        server.address            # where it listens, the port resolved

Health and reflection come with it. On leaving, health turns NOT_SERVING, calls in progress get `grace` seconds, then
the server stops.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from services.common.interceptor import CallInterceptor
from services.common.telemetry import Telemetry

MAX_MESSAGE_BYTES: Final = 32 * 1024 * 1024
"""The largest request or response of any hop; Envoy's body limit is the same."""

MAX_METADATA_BYTES: Final = 64 * 1024
"""The most metadata of a call. Envoy refuses headers of more than 60 KiB; gRPC alone would from 8 KiB on."""

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)


@dataclass(frozen=True, slots=True)
class Service:
    """A gRPC service to serve."""

    name: str
    """Its full name, such as `mycel.cache.v1.CacheService`."""
    add: Callable[[grpc.aio.Server], None]
    """Adds the servicer to a server."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that has started."""

    address: str
    """Where it listens, as a client would dial it."""
    health: HealthServicer
    names: tuple[str, ...]

    async def set_serving(self, serving: bool) -> None:
        """Reports every service as serving, or not."""
        status = health_pb2.HealthCheckResponse
        value = status.SERVING if serving else status.NOT_SERVING
        for name in ("", *self.names):
            await self.health.set(name, value)


class ListenError(Exception):
    """The address could not be listened on; the message says which and why."""


@asynccontextmanager
async def running_server(
    listen: str,
    services: Sequence[Service],
    telemetry: Telemetry,
    *,
    grace: float = 5.0,
    serving: bool = True,
) -> AsyncIterator[RunningServer]:
    """Starts a server, and stops it gracefully on leaving.

    Args:
        listen: `host:port` (port 0 picks one) or `unix:PATH`; a stale socket file is replaced.
        services: what to serve, besides health and reflection.
        telemetry: the process's tracing.
        grace: seconds that calls in progress get when the server stops.
        serving: what health reports at first; a service that has to warm up says False and calls `set_serving`.

    Raises:
        ListenError: the address is taken or cannot be bound.
    """
    interceptors = [*telemetry.server_interceptors(), CallInterceptor()]
    server = grpc.aio.server(interceptors=interceptors, options=_OPTIONS)
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)  # type: ignore[no-untyped-call]
    for service in services:
        service.add(server)
    names = tuple(service.name for service in services)
    served = (*names, "grpc.health.v1.Health", reflection.SERVICE_NAME)
    reflection.enable_server_reflection(served, server)  # type: ignore[no-untyped-call]
    running = RunningServer(_bind(server, listen), health, names)
    await running.set_serving(serving)
    await server.start()
    try:
        yield running
    finally:
        await health.enter_graceful_shutdown()
        await server.stop(grace)


async def wait_for_stop_signal() -> None:
    """Returns when the process is asked to stop by SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def _bind(server: grpc.aio.Server, listen: str) -> str:
    if listen.startswith("unix:"):
        Path(listen.removeprefix("unix:")).unlink(missing_ok=True)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise ListenError(f"cannot listen on {listen}: {error}") from error
    if listen.startswith("unix:"):
        return listen
    if port == 0:
        raise ListenError(f"cannot listen on {listen}: the address is taken or not this machine's")
    return f"{listen.rpartition(':')[0]}:{port}"
