"""A backend and a cache that do what a test says, behind real gRPC servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from mycel.cache.v1 import cache_service_pb2 as cache
from mycel.cache.v1.cache_service_pb2_grpc import CacheServiceServicer
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.completion.v1.completion_service_pb2_grpc import CompletionServiceServicer

from services.common.errors import MycelError

Step = completion.StreamCompletionResponse | MycelError | asyncio.Event


def started(provider: str) -> completion.StreamCompletionResponse:
    return completion.StreamCompletionResponse(started=completion.CompletionStarted(provider=provider))


def text(piece: str) -> completion.StreamCompletionResponse:
    return completion.StreamCompletionResponse(delta=chat.ChoiceDelta(text=piece))


def finish(
    reason: chat.FinishReason.ValueType = chat.FINISH_REASON_STOP, *, prompt: int = 3, completion_tokens: int = 2
) -> list[completion.StreamCompletionResponse]:
    usage = chat.Usage(prompt_tokens=prompt, completion_tokens=completion_tokens)
    return [
        completion.StreamCompletionResponse(delta=chat.ChoiceDelta(finish_reason=reason)),
        completion.StreamCompletionResponse(completed=completion.CompletionCompleted(usage=usage)),
    ]


def answer(provider: str, *pieces: str) -> list[Step]:
    return [started(provider), *(text(piece) for piece in pieces), *finish()]


class ScriptedBackend(CompletionServiceServicer):
    """Plays a model's steps: events are sent, errors raised, and an asyncio.Event is waited for."""

    def __init__(self, scripts: Mapping[str, Iterable[Step]], off: Mapping[str, str] | None = None) -> None:
        self._scripts = {model: [list(steps)] for model, steps in scripts.items()}
        self._off = dict(off or {})
        self.asked: list[str] = []
        self.requests: list[completion.StreamCompletionRequest] = []
        self.tenants: list[str] = []
        self.cancelled = asyncio.Event()
        self.waiting = asyncio.Event()
        self.time_remaining: list[float | None] = []
        self._news = asyncio.Condition()

    def play(self, model: str, *scripts: Sequence[Step]) -> None:
        """Replaces a model's script, or gives several for the calls to come; the last one is repeated."""
        self._scripts[model] = [list(steps) for steps in scripts]

    async def until_asked(self, model: str) -> None:
        """Waits until a model was asked."""
        async with self._news:
            await self._news.wait_for(lambda: model in self.asked)

    async def StreamCompletion(
        self, request: completion.StreamCompletionRequest, context: Any
    ) -> AsyncIterator[completion.StreamCompletionResponse]:
        self.asked.append(request.model)
        self.requests.append(request)
        self.tenants.append(dict(context.invocation_metadata()).get("x-mycel-tenant"))
        self.time_remaining.append(context.time_remaining())
        async with self._news:
            self._news.notify_all()
        scripts = self._scripts[request.model]
        try:
            for step in scripts.pop(0) if len(scripts) > 1 else scripts[0]:
                if isinstance(step, MycelError):
                    raise step
                if isinstance(step, asyncio.Event):
                    self.waiting.set()
                    await step.wait()
                else:
                    yield step
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise

    async def ListModels(self, request: Any, context: Any) -> completion.ListModelsResponse:
        models = [completion.ModelInfo(name=name, available=name not in self._off) for name in self._scripts]
        for model in models:
            model.unavailable_reason = self._off.get(model.name, "")
        return completion.ListModelsResponse(models=models)


class ScriptedCache(CacheServiceServicer):
    """Gives the outcomes of a list in order, then misses; keeps what it is told to store."""

    def __init__(self, outcomes: Sequence[cache.LookupResponse | MycelError | asyncio.Event] = ()) -> None:
        self._outcomes = list(outcomes)
        self.lookups: list[cache.LookupRequest] = []
        self.stores: asyncio.Queue[cache.StoreRequest] = asyncio.Queue()

    async def Lookup(self, request: cache.LookupRequest, context: Any) -> cache.LookupResponse:
        self.lookups.append(request)
        outcome = self._outcomes.pop(0) if self._outcomes else cache.LookupResponse(miss=cache.Miss(reason="no_entry"))
        if isinstance(outcome, MycelError):
            raise outcome
        if isinstance(outcome, asyncio.Event):
            await outcome.wait()
            return cache.LookupResponse(miss=cache.Miss(reason="no_entry"))
        return outcome

    async def Store(self, request: cache.StoreRequest, context: Any) -> cache.StoreResponse:
        self.stores.put_nowait(request)
        return cache.StoreResponse(outcome=cache.STORE_OUTCOME_STORED, entry_id="1")
