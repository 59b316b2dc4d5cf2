"""Puts the provider adapter together and serves it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from mycel.completion.v1.completion_service_pb2_grpc import add_CompletionServiceServicer_to_server
from mycel.embedding.v1.embedding_service_pb2_grpc import add_EmbeddingServiceServicer_to_server

from services.common.server import RunningServer, Service, running_server
from services.common.telemetry import Telemetry
from services.provider.embedding_servicer import EmbeddingServicer
from services.provider.registry import Registry
from services.provider.servicer import CompletionServicer
from services.provider.settings import ProviderSettings

_TALKATIVE: Final = ("openai", "anthropic", "httpx", "httpx2", "httpcore", "httpcore2")
"""Loggers that write conversations and headers when they are asked for details."""


@asynccontextmanager
async def running_provider(settings: ProviderSettings, telemetry: Telemetry) -> AsyncIterator[RunningServer]:
    """Serves the provider adapter; on leaving, streams in progress finish."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    registry = Registry.from_config(settings.config)
    completions = CompletionServicer(registry)
    embeddings = EmbeddingServicer(registry)
    services = [
        Service(
            "mycel.completion.v1.CompletionService",
            lambda server: add_CompletionServiceServicer_to_server(completions, server),
        ),
        Service(
            "mycel.embedding.v1.EmbeddingService",
            lambda server: add_EmbeddingServiceServicer_to_server(embeddings, server),
        ),
    ]
    try:
        async with running_server(settings.listen, services, telemetry) as server:
            yield server
    finally:
        await registry.aclose()
