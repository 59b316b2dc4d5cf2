"""CompletionService in front of Triton."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.completion.v1.completion_service_pb2_grpc import CompletionServiceServicer
from opentelemetry import trace

from services.common.deadline import Deadline
from services.common.tenant import TENANT_HEADER
from services.inference.answering import AnswerFacts, Answering, Event
from services.inference.models import LocalModels

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class CompletionServicer(CompletionServiceServicer):
    """Serves CompletionService from Triton's models."""

    def __init__(self, models: LocalModels, answering: Answering, *, call_seconds: float) -> None:
        self._models = models
        self._answering = answering
        self._call_seconds = call_seconds

    async def StreamCompletion(
        self, request: completion.StreamCompletionRequest, context: Context
    ) -> AsyncIterator[completion.StreamCompletionResponse]:
        model = self._models.find(request.model)
        deadline = Deadline.of(context.time_remaining(), self._call_seconds)
        span = trace.get_current_span()
        span.set_attributes(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": model.config.provider,
                "gen_ai.request.model": model.triton_name,
            }
        )
        facts = AnswerFacts()
        try:
            async with aclosing(self._answering.stream(model, request, _tenant(context), deadline, facts)) as events:
                async for event in events:
                    yield _response(event)
        finally:
            _describe(span, facts)

    async def ListModels(
        self, request: completion.ListModelsRequest, context: Context
    ) -> completion.ListModelsResponse:
        return completion.ListModelsResponse(models=[model.info() for model in self._models.all()])


def _tenant(context: Context) -> str:
    """Says for whom a call is; whoever does not say is one tenant."""
    return str(dict(context.invocation_metadata() or ()).get(TENANT_HEADER, ""))


def _response(event: Event) -> completion.StreamCompletionResponse:
    match event:
        case completion.CompletionStarted():
            return completion.StreamCompletionResponse(started=event)
        case chat.ChoiceDelta():
            return completion.StreamCompletionResponse(delta=event)
        case completion.CompletionCompleted():
            return completion.StreamCompletionResponse(completed=event)


def _describe(span: trace.Span, facts: AnswerFacts) -> None:
    """Puts the counts and times of an answer on its span: never its text."""
    span.set_attribute("gen_ai.usage.input_tokens", facts.prompt_tokens)
    span.set_attribute("gen_ai.usage.cache_read.input_tokens", facts.cached_tokens)
    span.set_attribute("gen_ai.usage.output_tokens", facts.completion_tokens)
    if facts.finish_reason:
        span.set_attribute("gen_ai.response.finish_reasons", [facts.finish_reason])
    if facts.first_piece_seconds is not None:
        span.set_attribute("gen_ai.response.time_to_first_chunk", facts.first_piece_seconds)
