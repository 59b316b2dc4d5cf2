"""A real cache service: Milvus Lite in a temporary folder, the real embedding model, gRPC on a free port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mycel.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from mycel.embedding.v1.embedding_service_pb2_grpc import EmbeddingServiceStub

from services.cache.holdings import Limits
from services.cache.serve import running_cache
from services.cache.settings import CacheSettings
from services.common.channels import open_channel
from services.common.config import CacheConfig
from services.common.telemetry import Telemetry
from tests.unit.cache.model import model_folder


@dataclass(frozen=True)
class Clients:
    cache: CacheServiceStub
    embedding: EmbeddingServiceStub
    address: str


StartCache = Callable[..., AbstractAsyncContextManager[Clients]]


def cache_settings(folder: Path, *, max_entries: int = 1000, max_answer_bytes: int = 1024 * 1024, **config: Any):
    return CacheSettings(
        listen="127.0.0.1:0",
        config=CacheConfig(**config),
        store_uri=str(folder / "cache.db"),
        store_token=None,
        embedder_folder=model_folder(),
        embedder_threads=1,
        max_answer_bytes=max_answer_bytes,
        limits=Limits(entries_per_tenant=max_entries, recent_answer_bytes=64 * 1024),
    )


@pytest.fixture
def start_cache(tmp_path: Path) -> StartCache:
    """Starts a cache on the test's own folder; a second start finds what the first one kept."""

    @asynccontextmanager
    async def start(**options: Any) -> AsyncIterator[Clients]:
        settings = cache_settings(tmp_path, **options)
        async with (
            running_cache(settings, Telemetry.disabled()) as server,
            open_channel(server.address, Telemetry.disabled()) as channel,
        ):
            yield Clients(CacheServiceStub(channel), EmbeddingServiceStub(channel), server.address)

    return start


@pytest.fixture
async def clients(start_cache: StartCache) -> AsyncIterator[Clients]:
    async with start_cache() as clients:
        yield clients
