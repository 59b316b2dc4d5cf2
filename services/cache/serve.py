"""Puts the cache together and serves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from mycel.cache.v1.cache_service_pb2_grpc import add_CacheServiceServicer_to_server
from mycel.embedding.v1.embedding_service_pb2_grpc import add_EmbeddingServiceServicer_to_server

from services.cache.cache import AnswerCache
from services.cache.decision import ThresholdRule
from services.cache.embedder import MiniLmEmbedder
from services.cache.embedding_servicer import EmbeddingServicer
from services.cache.holdings import Holdings
from services.cache.milvus_store import MilvusStore
from services.cache.servicer import CacheServicer
from services.cache.settings import CacheSettings
from services.cache.workers import Workers
from services.common.server import RunningServer, Service, running_server
from services.common.telemetry import Telemetry

_WAITING_COMPUTATIONS: Final = 64
"""Embeddings that run or wait. At five milliseconds each, a longer queue would outlast every lookup's deadline."""


@asynccontextmanager
async def running_cache(settings: CacheSettings, telemetry: Telemetry) -> AsyncIterator[RunningServer]:
    """Serves the cache; on leaving, everything that was accepted is written.

    Raises:
        SettingsError: the embedding model is missing, or the store cannot be opened.
        ListenError: the address cannot be listened on.
    """
    embedder = await asyncio.to_thread(MiniLmEmbedder, settings.embedder_folder, threads=settings.embedder_threads)
    token = settings.store_token.get_secret_value() if settings.store_token else ""
    store = await asyncio.to_thread(MilvusStore, settings.store_uri, embedder.dimensions, token=token)
    compute = Workers("compute", threads=1, most_waiting=_WAITING_COMPUTATIONS)
    holdings = Holdings(store, dimensions=embedder.dimensions, embedder_id=embedder.id, limits=settings.limits)
    cache = AnswerCache(
        holdings,
        embedder,
        compute,
        ThresholdRule(settings.threshold),
        by_meaning=settings.config.mode == "semantic",
        max_answer_bytes=settings.max_answer_bytes,
    )
    try:
        async with (
            holdings.running(),
            running_server(
                settings.listen, _services(cache, holdings, settings, embedder, compute), telemetry
            ) as server,
        ):
            yield server
    finally:
        compute.close()
        await asyncio.to_thread(store.close)


def _services(
    cache: AnswerCache, holdings: Holdings, settings: CacheSettings, embedder: MiniLmEmbedder, compute: Workers
) -> list[Service]:
    answers = CacheServicer(cache, holdings, settings.config, embedder.id)
    embeddings = EmbeddingServicer(embedder, compute)
    return [
        Service("mycel.cache.v1.CacheService", lambda server: add_CacheServiceServicer_to_server(answers, server)),
        Service(
            "mycel.embedding.v1.EmbeddingService",
            lambda server: add_EmbeddingServiceServicer_to_server(embeddings, server),
        ),
    ]
