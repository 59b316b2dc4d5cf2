"""Short ways to call the cache in tests."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from mycel.cache.v1 import cache_service_pb2 as pb
from mycel.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from mycel.chat.v1 import types_pb2 as chat

from services.common.errors import MycelError
from services.common.status import from_rpc_error
from tests.unit.cache.model import answered, asked

SECONDS = 20


async def look(
    stub: CacheServiceStub,
    question: str | chat.ChatInput,
    *,
    tenant: str = "team-a",
    scope: str = "",
    model: str = "auto",
    mode: Any = pb.CACHE_MODE_SEMANTIC,
) -> pb.LookupResponse:
    key = pb.CacheKey(tenant=tenant, scope=scope, model=model)
    request = asked(question) if isinstance(question, str) else question
    return await stub.Lookup(pb.LookupRequest(key=key, input=request, mode=mode), timeout=SECONDS)


async def keep(
    stub: CacheServiceStub,
    question: str | chat.ChatInput,
    answer: str | pb.StoredAnswer,
    *,
    tenant: str = "team-a",
    scope: str = "",
    model: str = "auto",
    **fields: Any,
) -> pb.StoreResponse:
    key = pb.CacheKey(tenant=tenant, scope=scope, model=model)
    request = asked(question) if isinstance(question, str) else question
    stored = answered(answer) if isinstance(answer, str) else answer
    return await stub.Store(pb.StoreRequest(key=key, input=request, answer=stored, **fields), timeout=SECONDS)


def text_of(response: pb.LookupResponse) -> str:
    """The hit's text; a miss fails the test."""
    assert response.WhichOneof("outcome") == "hit", response.miss
    return response.hit.answer.choices[0].message.content[0].text


def reason_of(response: pb.LookupResponse) -> str:
    """The miss's reason; a hit fails the test."""
    assert response.WhichOneof("outcome") == "miss"
    return response.miss.reason


async def refusal(call: Any) -> MycelError:
    """The typed error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = from_rpc_error(caught.value, "cache")
    # Our own typed error, not the transport's.
    assert "hop" not in error.metadata
    return error
