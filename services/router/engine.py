"""A request's life: looked up, planned, asked, moved on when a model fails, settled and stored."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeAlias

from mycel.cache.v1 import cache_service_pb2 as cache
from mycel.chat.v1 import chat_service_pb2 as chat_service
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.deadline import Deadline
from services.common.errors import MycelError, internal
from services.router.accumulate import Accumulator, replay
from services.router.catalogue import Candidate, Catalogue, Plan
from services.router.ports import BackendPort, CacheMode, CachePort, Call

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


Event: TypeAlias = Opened | chat.ChoiceDelta | Closed


@dataclass(slots=True)
class _Attempts:
    """The attempts of one call."""

    begun: int = 0
    failures: dict[str, MycelError] = field(default_factory=dict)


class ChatEngine:
    """Answers calls. Every error it raises is a `MycelError`."""

    def __init__(
        self,
        catalogue: Catalogue,
        cache_port: CachePort,
        backends: Mapping[str, BackendPort],
        store: Callable[[cache.StoreRequest], None],
    ) -> None:
        """Makes an engine.

        Args:
            catalogue: the models and who serves them.
            cache_port: the cache.
            backends: the services that answer, by the name that candidates give.
            store: takes an answer to keep, without waiting for it.
        """
        self._catalogue = catalogue
        self._cache = cache_port
        self._backends = backends
        self._store = store

    async def answer(self, call: Call) -> AsyncGenerator[Event, None]:
        """Answers a call: `Opened`, then deltas, then `Closed`.

        An error before `Opened` means that nothing was sent; a later one ends the answer where it stands.
        """
        deadline = Deadline.of(call.deadline_seconds, call.deadline_seconds)
        # An unknown model is refused before anything is looked up.
        plan = self._catalogue.plan(call.model, call.value)
        found = await self._look_up(call)
        if found is not None and found.HasField("hit"):
            for event in _events_of_hit(found.hit, plan):
                yield event
            return
        kind = "bypass" if call.cache_mode is CacheMode.OFF else "miss"
        attempts = _Attempts()
        async with aclosing(self._ask(call, plan, deadline, attempts)) as stream:
            async for event in self._relay(call, plan, stream, kind, attempts, found):
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

    async def _ask(
        self, call: Call, plan: Plan, deadline: Deadline, attempts: _Attempts
    ) -> AsyncGenerator[tuple[Candidate, completion.StreamCompletionResponse], None]:
        """Asks the candidates in order until one begins to answer, and streams that one's events."""
        for candidate in plan.candidates:
            attempts.begun += 1
            request = completion.StreamCompletionRequest(model=candidate.model, input=call.value)
            begun = False
            stream = self._backends[candidate.backend].stream(request, deadline.left())
            try:
                async with aclosing(stream):
                    async for event in stream:
                        begun = True
                        yield candidate, event
                return
            except MycelError as error:
                if begun or not error.meaning.failover:
                    raise
                attempts.failures[candidate.model] = error
                _log.info(
                    "%s failed before its first token: %s",
                    candidate.model,
                    error.reason_name,
                    extra={"model": candidate.model, "reason": error.reason_name},
                )
        raise _all_failed(plan, attempts.failures)

    async def _relay(
        self,
        call: Call,
        plan: Plan,
        stream: AsyncGenerator[tuple[Candidate, completion.StreamCompletionResponse], None],
        kind: str,
        attempts: _Attempts,
        found: cache.LookupResponse | None,
    ) -> AsyncGenerator[Event, None]:
        """Turns a backend's events into the caller's, and hands the whole answer to the store."""
        answer = Accumulator()
        async for candidate, event in stream:
            match event.WhichOneof("event"):
                case "started":
                    yield _opened(kind, plan, candidate.model, candidate.provider, attempts.begun)
                case "delta":
                    answer.add(event.delta)
                    yield event.delta
                case "completed":
                    usage = event.completed.usage
                    stored = cache.StoredAnswer(
                        choices=answer.choices(),
                        usage=usage,
                        model=candidate.model,
                        provider=candidate.provider,
                        cost_usd=candidate.cost(usage),
                    )
                    self._keep(call, stored, found)
                    yield Closed(usage, _summary(kind, plan, stored, attempts.begun))
                    return
                case _:
                    raise MycelError(
                        ErrorReason.ERROR_REASON_BACKEND_MALFORMED, f"{candidate.provider}: an event of unknown kind"
                    )
        raise internal("the backend's stream ended without `completed`")

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


def _all_failed(plan: Plan, failures: Mapping[str, MycelError]) -> MycelError:
    """Says what happened when every candidate failed: their common reason, or each one's."""
    errors = list(failures.values())
    if len({error.reason for error in errors}) == 1:
        return errors[-1]
    reasons = {model: error.reason_name for model, error in failures.items()} | dict(plan.skipped)
    told = "; ".join(f"{model}: {why}" for model, why in reasons.items())
    waits = [error.retry_after for error in errors if error.retry_after is not None]
    return MycelError(
        ErrorReason.ERROR_REASON_NO_CANDIDATE,
        f"no model could answer: {told}",
        metadata=reasons,
        retry_after=min(waits, default=None),
    )
