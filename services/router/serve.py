"""Puts the router together and serves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from mycel.chat.v1.chat_service_pb2_grpc import add_ChatServiceServicer_to_server
from mycel.openai.v1.openai_service_pb2_grpc import add_OpenAIServiceServicer_to_server
from mycel.status.v1.status_service_pb2_grpc import add_StatusServiceServicer_to_server

from services.common.channels import open_channel
from services.common.server import RunningServer, Service, running_server
from services.common.telemetry import Telemetry
from services.router.answering import Answerer
from services.router.asking import Asker
from services.router.auth import Tenants
from services.router.calls import CallReader
from services.router.catalogue import INFERENCE, PROVIDER, Catalogue
from services.router.chat_servicer import ChatServicer
from services.router.clients import BackendClient, CacheClient
from services.router.engine import ChatEngine
from services.router.openai.servicer import OpenAIServicer
from services.router.ports import BackendPort
from services.router.refresh import refresh_catalogue
from services.router.reliability.board import Board
from services.router.settings import RouterSettings
from services.router.status_servicer import StatusServicer
from services.router.store_queue import StoreQueue

_DRAIN_SECONDS: Final = 2.0


@asynccontextmanager
async def running_router(settings: RouterSettings, telemetry: Telemetry) -> AsyncIterator[RunningServer]:
    """Serves the router; on leaving, calls finish and answers that wait are stored."""
    async with AsyncExitStack() as stack:
        cache_channel = await stack.enter_async_context(open_channel(settings.mesh, telemetry, authority="cache.mycel"))
        cache = CacheClient(cache_channel, lookup_seconds=settings.cache_seconds)
        backends = await _open_backends(stack, settings.mesh, telemetry)
        # Listing models is housekeeping and would fill the traces: it has channels of its own, untraced.
        listed = await _open_backends(stack, settings.mesh, Telemetry.disabled())
        queue = StoreQueue(cache)
        catalogue = Catalogue(settings.config)
        board = Board(settings.config.reliability, settings.config.quota_groups())
        answerer = Answerer(Asker(backends, board), settings.config.reliability)
        engine = ChatEngine(catalogue, cache, answerer, queue.put)
        tenants = Tenants(settings.config.tenants, development=settings.development_key)
        reader = CallReader(tenants, settings.config.cache, max_seconds=settings.call_seconds)
        chat = ChatServicer(engine, reader)
        openai = OpenAIServicer(engine, reader, catalogue, cache.embed)
        status = StatusServicer(board)
        background = [asyncio.create_task(queue.run()), asyncio.create_task(refresh_catalogue(catalogue, listed))]
        stack.push_async_callback(_end, background, queue)
        yield await stack.enter_async_context(
            running_server(
                settings.listen,
                [
                    Service(
                        "mycel.chat.v1.ChatService", lambda server: add_ChatServiceServicer_to_server(chat, server)
                    ),
                    Service(
                        "mycel.openai.v1.OpenAIService",
                        lambda server: add_OpenAIServiceServicer_to_server(openai, server),
                    ),
                    Service(
                        "mycel.status.v1.StatusService",
                        lambda server: add_StatusServiceServicer_to_server(status, server),
                    ),
                ],
                telemetry,
            )
        )


async def _open_backends(stack: AsyncExitStack, mesh: str, telemetry: Telemetry) -> dict[str, BackendPort]:
    return {
        name: BackendClient(
            await stack.enter_async_context(open_channel(mesh, telemetry, authority=f"{name}.mycel")), name
        )
        for name in (INFERENCE, PROVIDER)
    }


async def _end(background: list[asyncio.Task[None]], queue: StoreQueue) -> None:
    await queue.drain(_DRAIN_SECONDS)
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
