"""CompletionService in front of the hosted providers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.completion.v1.completion_service_pb2_grpc import CompletionServiceServicer
from opentelemetry import trace

from services.common.errors import MycelError
from services.provider import requirements
from services.provider.continuation import continued
from services.provider.registry import Registry

Context = grpc.aio.ServicerContext[Any, Any]


class CompletionServicer(CompletionServiceServicer):
    """Serves CompletionService from the configured providers."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def StreamCompletion(
        self, request: completion.StreamCompletionRequest, context: Context
    ) -> AsyncIterator[completion.StreamCompletionResponse]:
        served = self._registry.find(request.model)
        span = trace.get_current_span()
        span.set_attributes(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": served.provider,
                "gen_ai.request.model": served.model.upstream,
            }
        )
        value, exactly = request.input, False
        if request.continue_after:
            exactly = served.model.capabilities.prefix_continuation
            value = continued(value, request.continue_after, by_prefix=exactly)
        requirements.check(served.model, value)
        try:
            async with aclosing(served.adapter.stream(served.model, value)) as events:
                async for event in events:
                    if isinstance(event, completion.CompletionStarted):
                        event.continues_exactly = exactly
                    yield _response(event, span)
        except MycelError as error:
            served.adapter.standing.saw_failure(error)
            error.metadata.setdefault("model", served.model.upstream)
            raise

    async def ListModels(
        self, request: completion.ListModelsRequest, context: Context
    ) -> completion.ListModelsResponse:
        return completion.ListModelsResponse(models=self._registry.models(), providers=self._registry.providers())


def _response(
    event: completion.CompletionStarted | chat.ChoiceDelta | completion.CompletionCompleted, span: trace.Span
) -> completion.StreamCompletionResponse:
    match event:
        case completion.CompletionStarted():
            span.set_attribute("gen_ai.response.model", event.upstream_model)
            return completion.StreamCompletionResponse(started=event)
        case chat.ChoiceDelta():
            return completion.StreamCompletionResponse(delta=event)
        case completion.CompletionCompleted():
            span.set_attributes(
                {
                    "gen_ai.usage.input_tokens": event.usage.prompt_tokens,
                    "gen_ai.usage.output_tokens": event.usage.completion_tokens,
                }
            )
            return completion.StreamCompletionResponse(completed=event)
