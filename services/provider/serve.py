"""Puts the provider adapter together and serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mycel.completion.v1.completion_service_pb2_grpc import add_CompletionServiceServicer_to_server

from services.common.server import RunningServer, Service, running_server
from services.common.telemetry import Telemetry
from services.provider.registry import Registry
from services.provider.servicer import CompletionServicer
from services.provider.settings import ProviderSettings


@asynccontextmanager
async def running_provider(settings: ProviderSettings, telemetry: Telemetry) -> AsyncIterator[RunningServer]:
    """Serves the provider adapter; on leaving, streams in progress finish."""
    registry = Registry.from_config(settings.config)
    servicer = CompletionServicer(registry)
    service = Service(
        "mycel.completion.v1.CompletionService",
        lambda server: add_CompletionServiceServicer_to_server(servicer, server),
    )
    try:
        async with running_server(settings.listen, [service], telemetry) as server:
            yield server
    finally:
        await registry.aclose()
