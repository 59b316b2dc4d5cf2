"""Channels to other services, through Envoy's mesh listener or straight to an address."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from services.common.server import MAX_MESSAGE_BYTES, MAX_METADATA_BYTES
from services.common.telemetry import Telemetry


@asynccontextmanager
async def open_channel(
    target: str, telemetry: Telemetry, *, authority: str | None = None
) -> AsyncIterator[grpc.aio.Channel]:
    """Opens a channel that carries the trace, and closes it on leaving.

    Args:
        target: `host:port` or `unix:PATH`.
        telemetry: the process's tracing.
        authority: the service that Envoy's mesh listener is to reach, such as `cache.mycel`.
    """
    options: list[tuple[str, str | int]] = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        # Retries are the router's decision, with the next candidate: the channel makes none.
        ("grpc.enable_retries", 0),
        # Each channel has its own connection, so that one :authority never rides on another's.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]
    if authority is not None:
        options.append(("grpc.default_authority", authority))
    interceptors = telemetry.client_interceptors()
    async with grpc.aio.insecure_channel(target, options=options, interceptors=interceptors) as channel:
        yield channel
