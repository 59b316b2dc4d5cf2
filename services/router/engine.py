"""A request's life: looked up, planned, asked, moved on when a model fails, settled and stored."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeAlias

from mycel.cache.v1 import cache_service_pb2 as cache
from mycel.chat.v1 import chat_service_pb2 as chat_service
from mycel.chat.v1 import types_pb2 as chat

from services.common.deadline import Deadline
from services.common.errors import MycelError
from services.router.accumulate import Accumulator, replay
from services.router.answering import Answerer, Began, Ended, Restarted
from services.router.asking import Record
from services.router.catalogue import Catalogue, Plan
from services.router.ports import CacheMode, CachePort, Call

_log = logging.getLogger(__name__)

_MODES = {
    CacheMode.EXACT: cache.CACHE_MODE_EXACT,
    CacheMode.SEMANTIC: cache.CACHE_MODE_SEMANTIC,
    CacheMode.REFRESH: cache.CACHE_MODE_REFRESH,
}


@dataclass(frozen=True, slots=True)
class Opened:
    """The answer begins: all that the response headers tell."""

    id: str
    created: int
    """Seconds since 1970."""
    cache: str
    """`exact`, `semantic`, `miss` or `bypass`."""
    tier: str
    model: str
    provider: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The answer is complete."""

    usage: chat.Usage
    summary: chat_service.CallSummary


Event: TypeAlias = Opened | chat.ChoiceDelta | chat_service.ProviderSwitched | Restarted | Closed


class ChatEngine:
    """Answers calls. Every error it raises is a `MycelError`."""

    def __init__(
        self,
        catalogue: Catalogue,
        cache_port: CachePort,
        answerer: Answerer,
        store: Callable[[cache.StoreRequest], None],
    ) -> None:
        """Makes an engine.

        Args:
            catalogue: the models and who serves them.
            cache_port: the cache.
            answerer: asks the models.
            store: takes an answer to keep, without waiting for it.
        """
        self._catalogue = catalogue
        self._cache = cache_port
        self._answerer = answerer
        self._store = store

    async def answer(self, call: Call) -> AsyncGenerator[Event, None]:
        """Answers a call: `Opened`, then deltas, then `Closed`.

        An error before `Opened` means that nothing was sent; a later one ends the answer where it stands.
        """
        deadline = Deadline.of(None, call.deadline_seconds)
        # An unknown model is refused before anything is looked up.
        plan = self._catalogue.plan(call.model, call.value)
        found = await self._look_up(call)
        if found is not None and found.HasField("hit"):
            for event in _events_of_hit(found.hit, plan):
                yield event
            return
        async with aclosing(self._answer_from_models(call, plan, deadline, found)) as events:
            async for event in events:
                yield event

    async def _answer_from_models(
        self, call: Call, plan: Plan, deadline: Deadline, found: cache.LookupResponse | None
    ) -> AsyncGenerator[Event, None]:
        """Asks the plan's candidates, and hands a whole answer to the store."""
        kind = "bypass" if call.cache_mode is CacheMode.OFF else "miss"
        record = Record(call.tenant)
        answer = Accumulator()
        answering = self._answerer.answer(call.value, plan.candidates, deadline, record, restarts=not call.streamed)
        async with aclosing(answering) as events:
            async for event in events:
                match event:
                    case Began(candidate):
                        yield _opened(kind, plan, candidate.model, candidate.provider, record.begun)
                    case Ended():
                        stored = _stored(event, answer)
                        if event.whole:
                            self._keep(call, stored, found)
                        yield Closed(event.usage, _summary(kind, plan, stored, record.begun))
                    case chat.ChoiceDelta():
                        answer.add(event)
                        yield event
                    case Restarted():
                        answer = Accumulator()
                        yield event
                    case _:
                        yield event

    async def _look_up(self, call: Call) -> cache.LookupResponse | None:
        """Asks the cache. A cache that is slow, down or broken is a miss, never an error."""
        if call.cache_mode is CacheMode.OFF:
            return None
        request = cache.LookupRequest(key=_key(call), input=call.value, mode=_MODES[call.cache_mode])
        try:
            return await self._cache.lookup(request)
        except MycelError as error:
            _log.warning("cache lookup failed: %s", error.reason_name, extra={"reason": error.reason_name})
            return None

    def _keep(self, call: Call, answer: cache.StoredAnswer, found: cache.LookupResponse | None) -> None:
        if call.cache_mode is CacheMode.OFF:
            return
        request = cache.StoreRequest(key=_key(call), input=call.value, answer=answer)
        if found is not None:
            request.embedding.extend(found.embedding)
            request.embedder_id = found.embedder_id
        self._store(request)


def _key(call: Call) -> cache.CacheKey:
    return cache.CacheKey(tenant=call.tenant, scope=call.scope, model=call.model)


def _stored(ended: Ended, answer: Accumulator) -> cache.StoredAnswer:
    return cache.StoredAnswer(
        choices=answer.choices(),
        usage=ended.usage,
        model=ended.candidate.model,
        provider=ended.candidate.provider,
        cost_usd=ended.cost_usd,
    )


def _opened(kind: str, plan: Plan, model: str, provider: str, attempts: int) -> Opened:
    return Opened(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), kind, plan.tier, model, provider, attempts)


def _summary(kind: str, plan: Plan, answer: cache.StoredAnswer, attempts: int) -> chat_service.CallSummary:
    hit = attempts == 0
    return chat_service.CallSummary(
        cache=kind,
        tier=plan.tier,
        model=answer.model,
        provider=answer.provider,
        attempts=attempts,
        cost_usd=0.0 if hit else answer.cost_usd,
        saved_usd=answer.cost_usd if hit else 0.0,
        explanation=plan.explanation,
    )


def _events_of_hit(hit: cache.Hit, plan: Plan) -> list[Event]:
    """Replays a stored answer: no model is asked and nothing is paid."""
    kind = "exact" if hit.kind == cache.HIT_KIND_EXACT else "semantic"
    answer = hit.answer
    return [
        _opened(kind, plan, answer.model, answer.provider, 0),
        *replay(answer.choices),
        Closed(answer.usage, _summary(kind, plan, answer, 0)),
    ]
