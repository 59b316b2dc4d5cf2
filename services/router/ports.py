"""What the router needs of the services behind it, without saying how they are reached."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mycel.cache.v1 import cache_service_pb2 as cache
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion


class CacheMode(StrEnum):
    """Which kinds of hit a call wants: the values of the request header `x-mycel-cache`."""

    OFF = "off"
    EXACT = "exact"
    SEMANTIC = "semantic"
    REFRESH = "refresh"


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is authenticated and checked."""

    tenant: str
    scope: str
    model: str
    """The model or route that was asked for."""
    value: chat.ChatInput
    cache_mode: CacheMode
    streamed: bool
    """Whether the caller gets the answer piece by piece; otherwise nothing is sent before it is whole."""
    deadline_seconds: float
    """What is left of the caller's time when the call arrives."""


class CachePort(Protocol):
    """The cache. A failure is a `MycelError`."""

    async def lookup(self, request: cache.LookupRequest) -> cache.LookupResponse:
        """Searches for an answer, under the cache's own short deadline."""
        ...

    async def store(self, request: cache.StoreRequest) -> cache.StoreResponse:
        """Keeps an answer."""
        ...


class BackendPort(Protocol):
    """A service that answers. A failure is a `MycelError`."""

    def stream(
        self, request: completion.StreamCompletionRequest, seconds: float, tenant: str
    ) -> AsyncGenerator[completion.StreamCompletionResponse, None]:
        """Asks one model for a tenant; closing the generator cancels the call."""
        ...

    async def list_models(self) -> Sequence[completion.ModelInfo]:
        """Tells its models."""
        ...
