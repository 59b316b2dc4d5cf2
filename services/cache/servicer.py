"""CacheService: the contract's messages to and from the cache's own types."""

from __future__ import annotations

import logging
from typing import Any, Final, cast

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from mycel.cache.v1 import cache_service_pb2 as pb
from mycel.cache.v1.cache_service_pb2_grpc import CacheServiceServicer
from mycel.chat.v1 import types_pb2 as chat
from opentelemetry import trace

from services.cache.cache import AnswerCache, Filters, Found, Key, Mode
from services.cache.holdings import Holdings
from services.common.config import CacheConfig
from services.common.errors import invalid

_log = logging.getLogger("mycel.cache")

Context = grpc.aio.ServicerContext[Any, Any]

_MAX_NAME: Final = 256
"""Characters of a tenant, a scope or a model."""

_MAX_TTL_MS: Final = 3650 * 24 * 3600 * 1000

_LESS_FIRST: Final[tuple[Mode, ...]] = ("off", "exact", "semantic")

_MODES: Final[dict[int, Mode]] = {
    pb.CACHE_MODE_OFF: "off",
    pb.CACHE_MODE_EXACT: "exact",
    pb.CACHE_MODE_SEMANTIC: "semantic",
    pb.CACHE_MODE_REFRESH: "refresh",
}


class CacheServicer(CacheServiceServicer):
    """Serves CacheService from one cache."""

    def __init__(self, cache: AnswerCache, holdings: Holdings, config: CacheConfig, embedder_id: str) -> None:
        self._cache = cache
        self._holdings = holdings
        self._config = config
        self._embedder_id = embedder_id

    async def Lookup(self, request: pb.LookupRequest, context: Context) -> pb.LookupResponse:
        mode = self._mode(request.mode)
        found = await self._cache.lookup(_key(request.key), _conversation(request.input), mode)
        response = pb.LookupResponse()
        if found.vector is not None:
            response.embedding.extend(found.vector.tolist())
            response.embedder_id = self._embedder_id
        hit = _hit(found)
        if hit is not None:
            response.hit.CopyFrom(hit)
        else:
            response.miss.CopyFrom(_miss(found))
        _describe(found)
        return response

    async def Store(self, request: pb.StoreRequest, context: Context) -> pb.StoreResponse:
        key, conversation = _key(request.key), _conversation(request.input)
        if len(request.answer.model) > _MAX_NAME:
            raise invalid("answer.model", f"has more than {_MAX_NAME} characters")
        if self._config.mode == "off":
            return pb.StoreResponse(outcome=pb.STORE_OUTCOME_NOT_CACHEABLE)
        ttl_ms = int(self._config.ttl.total_seconds() * 1000)
        if request.HasField("ttl"):
            ttl_ms = _milliseconds("ttl", request.ttl)
        outcome, entry_id = await self._cache.store(
            key,
            conversation,
            request.answer,
            ttl_ms=ttl_ms,
            vector=self._cache.checked_vector(list(request.embedding), request.embedder_id),
        )
        trace.get_current_span().set_attribute("mycel.cache.store", pb.StoreOutcome.Name(outcome))
        return pb.StoreResponse(outcome=outcome, entry_id=entry_id)

    async def Invalidate(self, request: pb.InvalidateRequest, context: Context) -> pb.InvalidateResponse:
        older = _milliseconds("older_than", request.older_than) if request.HasField("older_than") else None
        filters = Filters(
            tenant=_name("tenant", request.tenant),
            scope=request.scope if request.HasField("scope") else None,
            ids=frozenset(request.entry_ids),
            model=request.model,
            older_than_ms=older,
        )
        return pb.InvalidateResponse(entries=await self._cache.invalidate(filters, dry_run=request.dry_run))

    async def ReportFeedback(self, request: pb.ReportFeedbackRequest, context: Context) -> pb.ReportFeedbackResponse:
        tenant, entry_id = _name("tenant", request.tenant), _name("entry_id", request.entry_id)
        return pb.ReportFeedbackResponse(removed=await self._cache.report(tenant, entry_id, correct=request.correct))

    async def GetStats(self, request: pb.GetStatsRequest, context: Context) -> pb.GetStatsResponse:
        exact, semantic, misses = (
            sum(
                count
                for (tenant, outcome), count in self._cache.counts.items()
                if outcome == wanted and request.tenant in ("", tenant)
            )
            for wanted in ("exact", "semantic", "miss")
        )
        return pb.GetStatsResponse(
            entries=self._holdings.ledger.count(request.tenant),
            lookups=exact + semantic + misses,
            exact_hits=exact,
            semantic_hits=semantic,
            answer_bytes=self._holdings.ledger.answer_bytes(request.tenant),
            index_complete=self._holdings.complete,
            embedder_id=self._embedder_id,
            threshold=self._cache.rule.threshold,
            store_uri=self._holdings.store_uri,
        )

    def _mode(self, asked: pb.CacheMode.ValueType) -> Mode:
        """Gives what a lookup may do: what was asked for, and no more than what is configured."""
        configured = cast("Mode", self._config.mode)
        if asked == pb.CACHE_MODE_UNSPECIFIED:
            return configured
        mode = _MODES.get(asked)
        if mode is None:
            raise invalid("mode", f"{asked} is no cache mode")
        if mode == "refresh":
            return mode if configured != "off" else "off"
        return min(mode, configured, key=_LESS_FIRST.index)


def _name(field: str, value: str, *, required: bool = True) -> str:
    if required and not value:
        raise invalid(field, "is required")
    if len(value) > _MAX_NAME:
        raise invalid(field, f"has more than {_MAX_NAME} characters")
    return value


def _key(key: pb.CacheKey) -> Key:
    return Key(
        tenant=_name("key.tenant", key.tenant),
        scope=_name("key.scope", key.scope, required=False),
        model=_name("key.model", key.model),
    )


def _conversation(value: chat.ChatInput) -> chat.ChatInput:
    if not value.messages:
        raise invalid("input.messages", "at least one message is needed")
    return value


def _milliseconds(field: str, duration: Duration) -> int:
    milliseconds = duration.seconds * 1000 + duration.nanos // 1_000_000
    if not 0 < milliseconds <= _MAX_TTL_MS:
        raise invalid(field, "is not between a millisecond and ten years")
    return milliseconds


def _hit(found: Found) -> pb.Hit | None:
    if found.info is None:
        return None
    hit = pb.Hit(
        kind=pb.HIT_KIND_EXACT if found.exact else pb.HIT_KIND_SEMANTIC,
        entry_id=found.info.id,
        similarity=1.0 if found.exact or found.nearest is None else found.nearest.similarity,
    )
    try:
        hit.answer.ParseFromString(found.answer)
    except DecodeError:
        _log.exception("the answer of entry %s is damaged", found.info.id)
        return None
    hit.stored_at.FromMilliseconds(found.info.created_at)
    return hit


def _miss(found: Found) -> pb.Miss:
    if found.nearest is None:
        return pb.Miss(reason=found.reason or "no_entry")
    return pb.Miss(
        reason=found.reason or "no_entry",
        nearest_entry_id=found.nearest.info.id,
        nearest_similarity=found.nearest.similarity,
    )


def _describe(found: Found) -> None:
    """Puts the outcome on the call's span: never a text, not even the stored one's."""
    span = trace.get_current_span()
    outcome = found.reason if found.info is None else "exact" if found.exact else "semantic"
    span.set_attribute("mycel.cache.outcome", outcome)
    if found.nearest is not None:
        span.set_attribute("mycel.cache.similarity", found.nearest.similarity)
