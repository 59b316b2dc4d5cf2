"""The services behind the router, over gRPC through Envoy's mesh listener."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import grpc
from mycel.cache.v1 import cache_service_pb2 as cache
from mycel.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.completion.v1.completion_service_pb2_grpc import CompletionServiceStub
from mycel.embedding.v1 import embedding_service_pb2 as embedding
from mycel.embedding.v1.embedding_service_pb2_grpc import EmbeddingServiceStub

from services.common.status import from_rpc_error
from services.common.telemetry import UNSAMPLED
from services.common.tenant import TENANT_HEADER

_STORE_SECONDS = 10.0
_LIST_SECONDS = 2.0


class CacheClient:
    """The cache service."""

    def __init__(self, channel: grpc.aio.Channel, *, lookup_seconds: float) -> None:
        self._cache = CacheServiceStub(channel)
        self._embedding = EmbeddingServiceStub(channel)
        self._lookup_seconds = lookup_seconds

    async def lookup(self, request: cache.LookupRequest) -> cache.LookupResponse:
        try:
            return await self._cache.Lookup(request, timeout=self._lookup_seconds)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "cache") from error

    async def store(self, request: cache.StoreRequest) -> cache.StoreResponse:
        try:
            return await self._cache.Store(request, timeout=_STORE_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "cache") from error

    async def embed(self, request: embedding.EmbedRequest, seconds: float) -> embedding.EmbedResponse:
        try:
            return await self._embedding.Embed(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "cache") from error


class BackendClient:
    """A service that implements CompletionService."""

    def __init__(self, channel: grpc.aio.Channel, name: str) -> None:
        self._stub = CompletionServiceStub(channel)
        self._name = name

    async def stream(
        self, request: completion.StreamCompletionRequest, seconds: float, tenant: str
    ) -> AsyncGenerator[completion.StreamCompletionResponse, None]:
        call = self._stub.StreamCompletion(request, timeout=seconds, metadata=((TENANT_HEADER, tenant),))
        last: completion.StreamCompletionResponse | None = None
        try:
            async for event in call:
                if event.HasField("completed"):
                    last = event  # given on when the call's status is in: then it is over, and so is its span
                else:
                    yield event
            if last is not None:
                yield last
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self._name) from error
        finally:
            # Nothing happens when the call is done; otherwise the work behind it stops.
            call.cancel()

    async def list_models(self) -> Sequence[completion.ModelInfo]:
        try:
            response = await self._stub.ListModels(
                completion.ListModelsRequest(), timeout=_LIST_SECONDS, metadata=UNSAMPLED
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self._name) from error
        return response.models
